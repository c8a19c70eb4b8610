// Capabilities. A jail keeps none: forking instances, joining cgroups through open descriptors and
// tightening filters need none.
#pragma once

#include "base/result.h"

namespace mayfly {

// Empties the bounding, ambient, inheritable, permitted and effective sets of this thread and locks
// the bits that would give root's id its powers back. Needs CAP_SETPCAP; as a process without
// capabilities it has nothing to do and succeeds.
Status drop_all_capabilities();

// Whether this thread holds any capability, or could gain one through execve.
Result<bool> holds_capabilities();

}  // namespace mayfly
