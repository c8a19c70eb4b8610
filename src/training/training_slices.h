// The slice of a training: it has no jail of its own, but tries configurations by jobs that are its
// parts, decides by their results (search_log.h), looks once at the test split, and hands the model
// over. Its checkpoint is the log; whatever happens to the server, it goes on from there.
// Loop thread. docs/training.md is what users read.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "async/cancel.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "data/snapshot_files.h"
#include "jobs/job_engine.h"
#include "jobs/slice.h"
#include "jobs/trained_model.h"
#include "runner/report/trainer.h"
#include "training/train_code.h"

namespace mayfly {

class TrainingSlices {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Pool& pool;
    JobEngine& engine;
    SnapshotFiles snapshots;
    // What a job has cost, in the units of the node's prices.
    std::function<double(const JobRecord& job)> cost;
    RegisterTrained enroll;  // null: models stay with their training
    // The code of a trainer that Mayfly brings: published first where the project lacks it.
    struct BringAsk {
      std::string project, who;
      TrainerKind trainer;
      std::function<void(std::string_view)> told;  // how far it is, in words
      CancelToken cancel;
    };
    std::function<Task<Result<TrainCode>>(BringAsk ask)> bring = {};
  };
  explicit TrainingSlices(Parts parts) : parts_(std::move(parts)) {}

  // The detail of such a job is a TrainPlan.
  Task<SliceOutcome> run(SliceAsk ask);

 private:
  Parts parts_;
};

}  // namespace mayfly
