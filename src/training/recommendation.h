// What a recommendation is to learn from, settled before it runs: users, items, and perhaps one
// column of amounts. Values only.
#pragma once

#include "base/result.h"
#include "training/train_plan.h"

namespace mayfly {

// The job's target and group are columns of the schema, or empty. Settles its columns and what is
// left out. bad_request, too_large: what cannot be, in words that say what can.
Status settle_recommendation(const TrainWish& wish, const PlanFacts& facts, TrainPlan& plan);

}  // namespace mayfly
