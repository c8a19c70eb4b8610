// Slices of a Python function's run(inputs, ctx): whatever it does, from checkpoint to checkpoint.
// docs/jobs.md is what users read, runner/report/run_job.h what passes through the wall. Loop
// thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "jobs/slice.h"
#include "jobs/slice_jail.h"
#include "runner/report/run_job.h"
#include "store/blob_store.h"

namespace mayfly {

// What a job runs.
struct JobCode {
  Path artifact;     // the compiled folder
  Path environment;  // Python packages; empty: none
  Secrets secrets;   // null: none
};
using FindCode = std::function<Task<Result<JobCode>>(const JobRecord& job)>;

// The detail of such a job is its inputs, as JSON.
class RunSlices {
 public:
  RunSlices(SliceParts parts, FindCode find_code)
      : parts_(std::move(parts)), find_code_(std::move(find_code)) {}

  Task<SliceOutcome> run(SliceAsk ask);

 private:
  Task<Result<JobStore::SliceResult>> run_in(SliceAsk& ask, Path work, SliceOutcome& outcome);
  Result<JobSpec> lay_out(const SliceAsk& ask, const JobCode& code, const Path& work) const;
  Result<JobStore::SliceResult> take_end(const Path& work, bool kept, Pin& pin) const;

  SliceParts parts_;
  FindCode find_code_;
};

}  // namespace mayfly
