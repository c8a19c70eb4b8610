// The slice of a scoring: models that are there, over the rows of one split of a snapshot, in a
// jail (runner/report/score_job.h). It is one slice, whatever its length: cut off, it begins again.
// Loop thread.
//
// What is mounted is chosen here, and nowhere else: of the snapshot the split that was asked for,
// and of the training rows the columns which baselines are fitted on. Of what is only to become
// requests the target stays outside.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "jobs/slice.h"
#include "jobs/slice_jail.h"
#include "publish/source_folder.h"
#include "runner/report/dataset_schema.h"
#include "runner/report/score_job.h"

namespace mayfly {

// Every file of the snapshot that a job is about: schema.json and parts/<number>/<split>/….
using FindSplits = std::function<Task<Result<std::vector<SourceFile>>>(const JobRecord& job)>;

// Those of them that a scoring may see.
std::vector<SourceFile> choose_scored(const std::vector<SourceFile>& snapshot,
                                      const DatasetSchema& schema, const ScoreJob& job);

// The detail of such a job is its ScoreJob, as JSON; memory and threads are the slice's to say. Its
// inputs are the models.
class ScoreSlices {
 public:
  ScoreSlices(SliceParts parts, FindSplits find_splits)
      : parts_(std::move(parts)), find_splits_(std::move(find_splits)) {}

  Task<SliceOutcome> run(SliceAsk ask);

 private:
  Task<Result<JobStore::SliceResult>> run_in(SliceAsk& ask, SliceOutcome& outcome);
  Result<SourceFolder> lay_out_sources(const SliceAsk& ask, const ScoreJob& job,
                                       const std::vector<SourceFile>& snapshot) const;
  Result<JobStore::SliceResult> take_end(const ScoreJob& job, const Path& work, Pin& pin) const;

  SliceParts parts_;
  FindSplits find_splits_;
};

}  // namespace mayfly
