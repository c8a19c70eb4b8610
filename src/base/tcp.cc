#include "base/tcp.h"

#include <netdb.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <limits>
#include <memory>

namespace mayfly {
namespace {

using Steady = std::chrono::steady_clock;

}  // namespace

int poll_timeout(Duration duration) {
  const auto count = std::chrono::ceil<std::chrono::milliseconds>(duration).count();
  return static_cast<int>(std::clamp<std::int64_t>(count, 0, std::numeric_limits<int>::max()));
}

int connect_within(int socket, const sockaddr* address, socklen_t size, Duration limit) {
  if (::connect(socket, address, size) == 0) return 0;
  if (errno != EINPROGRESS && errno != EINTR) return errno;
  pollfd writable{.fd = socket, .events = POLLOUT, .revents = 0};
  const int ready = ::poll(&writable, 1, poll_timeout(limit));
  if (ready == 0) return ETIMEDOUT;
  if (ready < 0) return errno;
  int error = 0;
  socklen_t error_size = sizeof error;
  (void)::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &error_size);
  return error;
}

Result<std::vector<SocketAddress>> resolve_tcp(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) return fail(Code::Unavailable, ::gai_strerror(code));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* next = found; next != nullptr; next = next->ai_next) {
    SocketAddress& address = addresses.emplace_back();
    address.size = std::min<socklen_t>(next->ai_addrlen, sizeof address.storage);
    std::memcpy(&address.storage, next->ai_addr, address.size);
  }
  return addresses;
}

Result<Fd> connect_tcp(std::span<const SocketAddress> addresses, Duration limit) {
  const auto deadline = Steady::now() + limit;
  int error = ECONNREFUSED;
  for (const SocketAddress& next : addresses) {
    Fd socket(::socket(next.get().sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return fail_errno("socket");
    error = connect_within(socket.get(), &next.get(), next.size, deadline - Steady::now());
    if (error == 0) return socket;
  }
  return fail(Code::Unavailable, std::strerror(error));
}

Result<Fd> connect_tcp(const std::string& host, std::uint16_t port, Duration limit) {
  const std::vector<SocketAddress> addresses = TRY(resolve_tcp(host, port));
  return connect_tcp(addresses, limit);
}

}  // namespace mayfly
