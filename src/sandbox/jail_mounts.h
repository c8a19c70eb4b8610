// The jail's root: an empty, read-only tmpfs with the plan's folders bound into it, and a /proc in
// which each process sees only itself (docs/design/0005). Python's has /dev/null, zero and urandom
// too, and where the plan gives it scratch, /tmp and /dev/shm, and
// where it has secrets, /secrets; no other has a /dev.
#pragma once

#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "sandbox/jail_plan.h"

namespace mayfly {

// Detached copies of what the jail shows of the host, attributes set.
struct MountSources {
  std::vector<Fd> folders;  // in the order of the plan's mounts
  std::vector<Fd> devices;
};

// Called while the process still has the id that may walk to them.
Result<MountSources> open_mount_sources(const JailPlan& plan);

// The folders alone.
Result<std::vector<Fd>> open_folders(const JailPlan& plan);

// Makes the root, attaches the sources and leaves the old root behind. Called with the inside id (a
// tmpfs of the jail's user namespace stores no id that the namespace does not map) and
// CAP_SYS_ADMIN.
Status enter_root(const JailPlan& plan, MountSources sources);

// In the mount namespace of a jail that awaits a version: attaches the version's sources and its
// secrets. Called with the inside id, as enter_root is.
Status attach_version(const JailPlan& plan, const std::vector<Fd>& folders);

// What a jail that awaits a version will see of it lies beneath, also before it is there.
inline constexpr std::string_view kGivenFolder = "/given";

}  // namespace mayfly
