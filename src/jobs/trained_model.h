// What a training hands over to become a version, and what became of it. Whoever drives trainings
// is given the function; lineage/registrar.h makes versions of what it is called with.
#pragma once

#include <functional>

#include "async/task.h"
#include "base/result.h"
#include "core/json_reader.h"
#include "core/names.h"
#include "jobs/job.h"
#include "registry/registry.h"

namespace mayfly {

struct TrainedModel {
  JobRecord job;      // the training; its result so far
  JobRecord trial;    // the winner; its files have model.onnx and report.json
  JobRecord score;    // of the test split; without an id where there was none
  bool serve = true;  // through the gate, and its rollout; false: registered only
  Author author;
};

struct Registered {
  VersionNumber version;
  // {"passed": BOOL, "why": "…", "checks": [{"check", "passed", "text", …}]}
  Json gate;
  // {"state": "none" | "promoted" | "started" | "not_started", "why"}: whether it gets requests.
  Json rollout = Json();
};

// A training makes one version at most, however often it is handed over.
using RegisterTrained = std::function<Task<Result<Registered>>(TrainedModel)>;

}  // namespace mayfly
