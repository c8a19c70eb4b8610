// A process that gets what nobody else wants.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/result.h"

namespace mayfly {

enum class IdleCpu : std::uint8_t {
  ByGroup,      // its control group's weight sees to it
  ByScheduler,  // SCHED_IDLE (sched(7))
};

// The process and its children, and what they will make: idle I/O priority (ioprio_set(2)), and of
// processors as said. For a process that does not fork while it is told.
Status make_idle(pid_t process, IdleCpu cpu);

}  // namespace mayfly
