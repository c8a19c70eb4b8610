// The jail's root: an empty, read-only tmpfs with the plan's folders bound into it, and a /proc in
// which each process sees only itself (docs/design/0005). No /dev.
#pragma once

#include <span>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "sandbox/jail_plan.h"

namespace mayfly {

// Detached copies of the sources, attributes set, in the order of `mounts`. Called while the
// process still has the id that may walk to them.
Result<std::vector<Fd>> open_mount_sources(std::span<const JailMount> mounts);

// Makes the root, attaches the sources and leaves the old root behind. Called with the inside id (a
// tmpfs of the jail's user namespace stores no id that the namespace does not map) and
// CAP_SYS_ADMIN.
Status enter_root(std::span<const JailMount> mounts, std::vector<Fd> sources);

}  // namespace mayfly
