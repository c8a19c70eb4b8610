// Trainings over HTTP: a wish becomes a plan, and the plan a job, with 202. What becomes of it is
// asked of jobs (job_api.h). docs/training.md. Loop thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "async/pool.h"
#include "async/task.h"
#include "base/rng.h"
#include "core/invocation.h"
#include "data/snapshot_files.h"
#include "gateway/route.h"
#include "jobs/job_engine.h"
#include "net/exchange.h"
#include "serving/catalog.h"
#include "training/train_plan.h"

namespace mayfly {

// How a version was trained; nullopt: it was not. Blocks.
using FindTrainingRecord =
    std::function<Result<std::optional<Json>>(const FunctionName&, VersionNumber)>;

class TrainingApi {
 public:
  struct Parts {  // all outlive me
    Pool& pool;
    JobEngine& engine;
    SnapshotFiles snapshots;
    InvocationIds& ids;
    Rng& rng;
    Catalog& catalog;
    FindTrainingRecord record;  // null: none is known
  };
  explicit TrainingApi(Parts parts) : parts_(parts) {}

  Task<Result<Response>> create(Exchange& exchange, const Route& route);

 private:
  // The version that a function serves now.
  struct Serving {
    FunctionName function;
    VersionNumber version;
  };
  Result<TrainPlan> plan(const TrainWish& wish, std::string_view project,
                         const std::optional<Serving>& serving);

  Parts parts_;
};

}  // namespace mayfly
