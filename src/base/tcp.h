// Connecting to a host by name, blocking: for pools and for programs that wait anyway.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

// For poll(2): rounded up, so that nobody wakes too early; at least 0, which does not wait.
int poll_timeout(Duration duration);

// A connect that is given up after `limit`; `socket` does not block. 0, or the errno.
int connect_within(int socket, const sockaddr* address, socklen_t size, Duration limit);

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr& get() const { return reinterpret_cast<const sockaddr&>(storage); }
};

// The host's addresses in the resolver's order; for as long as the system's resolver tries.
// Unavailable, in the system's words.
Result<std::vector<SocketAddress>> resolve_tcp(const std::string& host, std::uint16_t port);

// Tries one address after the other, `limit` for all of them together. The socket does not block.
// Unavailable, in the system's words.
Result<Fd> connect_tcp(std::span<const SocketAddress> addresses, Duration limit);
Result<Fd> connect_tcp(const std::string& host, std::uint16_t port, Duration limit);

}  // namespace mayfly
