// Slices of a training with a trainer that is built in: the snapshot's files in, a model and what
// it is worth out. runner/report/train_job.h says what passes through the wall. Loop thread.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "jobs/run_talk.h"
#include "jobs/slice.h"
#include "jobs/slice_jail.h"
#include "publish/source_folder.h"
#include "runner/report/train_job.h"

namespace mayfly {

// What a training learns from: schema.json and parts/<number>/{train,valid}/…, and never a file of
// the test split.
using FindSnapshot = std::function<Task<Result<std::vector<SourceFile>>>(const JobRecord& job)>;

// The detail of such a job is its TrainJob, as JSON; memory, threads and what was restored are the
// slice's to say. Its result is the TrainEnd's, its files those of the worker's output; and of one
// that ended after so many rounds checkpoint/…, which a longer one goes on from when it is given
// them as its inputs, in the role of a checkpoint.
class TrainSlices {
 public:
  TrainSlices(SliceParts parts, FindSnapshot find_snapshot)
      : parts_(std::move(parts)), find_snapshot_(std::move(find_snapshot)) {}

  Task<SliceOutcome> run(SliceAsk ask);

 private:
  Task<Result<JobStore::SliceResult>> run_in(SliceAsk& ask, std::optional<SourceFolder>& folder,
                                             SliceOutcome& outcome);
  Result<JobSpec> spec_of(const SliceAsk& ask, const SourceFolder& folder) const;
  Result<JobStore::SliceResult> take_end(const SliceAsk& ask, const Path& work, const RunTalk& talk,
                                         Pin& pin) const;

  SliceParts parts_;
  FindSnapshot find_snapshot_;
};

}  // namespace mayfly
