// Trainings over HTTP: a wish becomes a plan, and the plan a job, with 202. What becomes of it is
// asked of jobs (job_api.h). docs/training.md. Loop thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "async/pool.h"
#include "async/task.h"
#include "base/rng.h"
#include "core/invocation.h"
#include "data/snapshot_files.h"
#include "gateway/route.h"
#include "jobs/job_engine.h"
#include "net/exchange.h"
#include "registry/registry.h"
#include "serving/catalog.h"
#include "serving/shipped_functions.h"
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
    Catalog& catalog;
    Registry& registry;
    ShippedFunctions& shipped;
    InvocationIds& ids;
    Rng& rng;
    FindTrainingRecord record;  // null: none is known
  };
  explicit TrainingApi(Parts parts) : parts_(std::move(parts)) {}

  Task<Result<Response>> create(Exchange& exchange, const Route& route);

 private:
  // The version that a function serves now.
  struct Serving {
    FunctionName function;
    VersionNumber version;
  };
  // The version of a Python function that is to train.
  struct Code {
    TrainCode code;
    Bytes memory;
  };
  struct Known {
    std::optional<Serving> serving;
    std::optional<Code> code;
  };
  Task<Result<Code>> find_code(const TrainWish& wish, const Principal& caller);
  // nullopt: it is not published yet.
  Task<Result<std::optional<Code>>> find_shipped(const TrainWish& wish, const Principal& caller);
  Result<TrainPlan> plan(const TrainWish& wish, std::string_view project, const Known& known);

  Parts parts_;
};

}  // namespace mayfly
