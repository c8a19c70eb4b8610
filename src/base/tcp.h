// Connecting to a host by name, blocking: for pools and for programs that wait anyway.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

// For poll(2): rounded up, so that nobody wakes too early; at least 0, which does not wait.
int poll_timeout(Duration duration);

// A connect that is given up after `limit`; `socket` does not block. 0, or the errno.
int connect_within(int socket, const sockaddr* address, socklen_t size, Duration limit);

// Tries the host's addresses in the resolver's order, `limit` for all of them together. The socket
// does not block. Unavailable, in the system's words.
Result<Fd> connect_tcp(const std::string& host, std::uint16_t port, Duration limit);

}  // namespace mayfly
