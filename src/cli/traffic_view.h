// What several verbs show of a function's traffic, for people, on stdout.
#pragma once

#include "cli/node_client.h"

namespace mayfly {

// As the control API tells it: which version gets what, which names it has, how shadows compare.
void print_traffic(const CliJson& traffic);
// A rollout that is under way: its steps, what was counted in this one, and what is thought of it.
void print_running_rollout(const CliJson& rollout);

}  // namespace mayfly
