// Landlock: file access by this process and its descendants only beneath named folders, for ever.
// Defence in depth behind the empty root: it still holds if a descriptor or a mount leaks in.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "sandbox/jail_plan.h"

namespace mayfly {

// The kernel's Landlock version; 0 where it is absent or switched off. Known steps: 1 files (5.13),
// 3 truncate (6.2), 4 TCP (6.7), 5 device ioctl (6.10), 6 abstract sockets and signals (6.12).
int landlock_version();

struct LandlockRule {
  std::string folder;
  Access access = Access::ReadOnly;
};

// Restricts the calling thread with everything this kernel's version can handle, but of TCP where
// it has some. Needs no_new_privs or CAP_SYS_ADMIN. A kernel without Landlock is not an error:
// `doctor` reports the layer as missing.
enum class Tcp : std::uint8_t { None, Allowed };
Status restrict_files(std::span<const LandlockRule> rules, Tcp tcp = Tcp::None);

}  // namespace mayfly
