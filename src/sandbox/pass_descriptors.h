// One message with descriptors beside it (SCM_RIGHTS, unix(7)).
#pragma once

#include <sys/uio.h>

#include <span>

#include "base/result.h"

namespace mayfly {

inline constexpr std::size_t kMaxPassed = 16;

// Sends `parts` as one datagram, with MSG_NOSIGNAL and `flags`. The descriptors stay the caller's.
Status send_with_descriptors(int socket, std::span<iovec> parts, std::span<const int> descriptors,
                             int flags = 0);

}  // namespace mayfly
