// The composition root of a node: every part appears once, in order, with what it needs.
#pragma once

#include <functional>

#include "app/config.h"
#include "base/result.h"
#include "gateway/event_service.h"

namespace mayfly {

// Serves until SIGTERM or SIGINT, then drains and returns. An error: the node could not start.
// Tests put stores of their own around those of events.
using WrapEventStores = std::function<EventStores(EventStores)>;
Status run_node(const Config& config, const WrapEventStores& wrap = std::identity());

}  // namespace mayfly
