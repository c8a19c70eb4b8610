// Whether a version can take the place of another one by a rollout. Loop thread.
#pragma once

#include "async/task.h"
#include "base/result.h"
#include "rollout/plan.h"
#include "serving/catalog.h"

namespace mayfly {

// conflict: clients of the champion could not speak to it. invalid_setting: the plan guards an
// output that it has not. unknown_version.
Task<Status> check_rollout_fit(Catalog& catalog, FunctionTable::Entry function,
                               VersionNumber champion, VersionNumber version,
                               const rollout::RolloutPlan& plan);

}  // namespace mayfly
