// Slices of a training by the train(ctx) of a Python function, from checkpoint to checkpoint:
// three jails, one after the other (runner/report/function_training.h). The function's own sees the
// snapshot's training and validation rows; what it made is checked and scored in one that it never
// enters. docs/python-training.md is what users read. Loop thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "jobs/run_slice.h"
#include "jobs/slice.h"
#include "jobs/slice_jail.h"
#include "jobs/train_slice.h"
#include "publish/source_folder.h"
#include "runner/report/train_job.h"

namespace mayfly {

// The version that TrainJob::function names, as a job of this kind runs it.
using FindTrainCode =
    std::function<Task<Result<JobCode>>(const JobRecord& job, const std::string& function)>;

// The detail of such a job is its TrainJob, of the kind Function. Its result and its files are as
// those of trainings with a built-in trainer.
class PythonTrainSlices {
 public:
  PythonTrainSlices(SliceParts parts, FindSnapshot find_snapshot, FindTrainCode find_code)
      : parts_(std::move(parts)),
        find_snapshot_(std::move(find_snapshot)),
        find_code_(std::move(find_code)) {}

  Task<SliceOutcome> run(SliceAsk ask);

 private:
  struct Course;
  Task<Result<JobStore::SliceResult>> run_in(SliceAsk& ask, Course& course, SliceOutcome& outcome);
  Task<Status> gather_facts(SliceAsk& ask, Course& course, SliceOutcome& outcome);
  // Whether it is done; else another slice goes on.
  Task<Result<bool>> train(SliceAsk& ask, Course& course, SliceOutcome& outcome);
  Task<Result<JobStore::SliceResult>> check(SliceAsk& ask, Course& course, SliceOutcome& outcome);
  Task<Result<std::string>> run_quietly(SliceAsk& ask, JobSpec spec, SliceOutcome& outcome);
  JobSpec spec_of(const SliceAsk& ask, const SourceFolder& folder, std::string request) const;
  Result<std::vector<SourceFile>> take(const Path& folder, const char* as, Pin& pin) const;

  SliceParts parts_;
  FindSnapshot find_snapshot_;
  FindTrainCode find_code_;
};

}  // namespace mayfly
