// Rows for a rollout whose function nobody asks (serving/rehearsal.h): the test rows of the
// challenger's snapshot, without their answers, which neither version was trained or tuned on. A
// jailed scoring makes requests of them. Loop thread; what blocks runs on pools.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "async/pool.h"
#include "async/task.h"
#include "base/result.h"
#include "core/invocation.h"
#include "jobs/job_store.h"
#include "lineage/trained_version.h"
#include "registry/pins.h"
#include "registry/registry.h"
#include "runner/report/score_job.h"
#include "serving/rehearsal.h"
#include "store/blob_store.h"

namespace mayfly {

class HeldOutRows {
 public:
  // Submits a scoring and waits for its end, whatever that is.
  using RunScore =
      std::function<Task<Result<JobRecord>>(JobSubmission job, std::vector<JobFile> inputs)>;
  struct Parts {  // all outlive me
    Pool& pool;
    const Clock& clock;
    BlobStore& blobs;  // of versions
    Pins& pins;        // of those
    Registry& registry;
    JobStore& jobs;
    BlobStore& job_blobs;
    InvocationIds& ids;
    Bytes memory;  // of the scoring
    RunScore score;
  };
  explicit HeldOutRows(Parts parts) : parts_(std::move(parts)) {}

  // As Rehearsal::FindRows: conflict says which of the versions nobody knows the rows of, or why
  // there are none that are fair to both. Unavailable: the scoring did not come to its end.
  Task<Result<std::vector<std::string>>> find(HeldOutAsk ask);

 private:
  struct Plan {
    ScoreJob score;
    Json data;
    JobFile model;
  };
  Result<Plan> plan(const HeldOutAsk& ask) const;
  Result<std::vector<std::string>> read(const JobRecord& scored, const ScoreJob& score) const;

  Parts parts_;
};

}  // namespace mayfly
