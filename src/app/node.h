// The composition root of a node: every part appears once, in order, with what it needs.
#pragma once

#include "app/config.h"
#include "base/result.h"

namespace mayfly {

// Serves until SIGTERM or SIGINT, then drains and returns. An error: the node could not start.
Status run_node(const Config& config);

}  // namespace mayfly
