// Which layers of the jail this machine gives, found by trying each in a child process, never by
// reading versions.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "sandbox/cgroup_support.h"
#include "sandbox/jail_plan.h"

namespace mayfly {

enum class LayerState : std::uint8_t {
  Active,
  Degraded,  // works, with less than the layer can do
  Missing,   // jails are made without it, or cannot be made at all: see detail
};
std::string_view to_string(LayerState state);

struct LayerHealth {
  Layer layer;
  LayerState state;
  std::string detail;  // what was seen
  std::string mend;    // what the operator can do; empty when active
};

// One entry per layer, in the order of Layer. Takes some milliseconds and forks: call it from a
// thread that may block, in a process whose children this does not confuse.
std::vector<LayerHealth> examine_layers(const CgroupSupport& cgroups);

// For isolation_level = "strict": an error that names every missing layer and its mend.
Status require_every_layer(const std::vector<LayerHealth>& layers);

}  // namespace mayfly
