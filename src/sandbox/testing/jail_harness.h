// Runs a probe inside a real jail and brings back what it found. A small process plays the blank,
// so that jail init becomes the test's own child, as it becomes the server's.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sandbox/jail.h"

namespace mayfly {

// The only maker of plans that lack layers; linked into tests.
struct JailPlanSurgeon {
  static JailPlan without(JailPlan plan, std::initializer_list<Layer> layers);
};

enum class RunAs { Self, OrdinaryUser };

struct JailRun {
  std::string error;   // why the jail could not be made or entered; empty when the probe ran
  std::string report;  // what the probe returned
  int signal = 0;      // that ended the probe's process
};

struct JailRunOptions {
  RunAs as = RunAs::Self;
  std::optional<Profile> instance = {};  // the probe runs in an instance of this profile
  std::vector<int> instance_cgroups = {};
  const JailPlan* version = nullptr;  // the jail awaits it, and is given it before the probe runs
  bool kill_at_report = false;        // kill the jail as soon as the probe has reported
};

// The probe runs in the worker (or instance) after every layer is in place. It must use only what
// the profile admits.
using Probe = std::function<std::string()>;
JailRun run_in_jail(const JailPlan& plan, const Probe& probe, const JailRunOptions& options = {});

inline constexpr unsigned kOrdinaryId = 65534;
bool running_as_root();

}  // namespace mayfly
