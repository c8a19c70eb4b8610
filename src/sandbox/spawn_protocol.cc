#include "sandbox/spawn_protocol.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "sandbox/pass_descriptors.h"

namespace mayfly {
namespace {

constexpr std::size_t kControlBytes = CMSG_SPACE(sizeof(int) * kMaxSpawnDescriptors);
constexpr std::uint32_t kLastKind = static_cast<std::uint32_t>(SpawnKind::Unfit);

std::vector<Fd> take_descriptors(msghdr& header) {
  std::vector<Fd> taken;
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(item) + i * sizeof(int), sizeof(int));
      taken.emplace_back(descriptor);
    }
  }
  return taken;
}

Status check_message(const SpawnMessage& message, std::size_t got) {
  const SpawnHeader& header = message.header;
  const auto kind = static_cast<std::uint32_t>(header.kind);
  const bool sound = got == sizeof header + message.body.size() && kind >= 1 && kind <= kLastKind &&
                     header.body_bytes == message.body.size() &&
                     header.plan_bytes <= header.body_bytes;
  if (!sound) return fail(Code::DataLoss, "the peer sent a malformed message");
  return {};
}

}  // namespace

Status send_spawn(int socket, SpawnHeader header, std::string_view body,
                  std::span<const int> descriptors) {
  CHECK(body.size() <= kMaxSpawnBody && descriptors.size() <= kMaxSpawnDescriptors);
  header.body_bytes = static_cast<std::uint32_t>(body.size());
  std::array<iovec, 2> parts = {
      {{.iov_base = &header, .iov_len = sizeof header},
       {.iov_base = const_cast<char*>(body.data()), .iov_len = body.size()}}};
  auto sent =
      send_with_descriptors(socket, std::span(parts).first(body.empty() ? 1 : 2), descriptors);
  if (!sent) return std::unexpected(std::move(sent).error().in("send to the peer"));
  return {};
}

Result<std::optional<SpawnMessage>> receive_spawn(int socket) {
  SpawnMessage received;
  // Most messages have no body: it is read in a second step only when there is one, so that the
  // common path neither allocates nor touches a large buffer.
  iovec part{.iov_base = &received.header, .iov_len = sizeof received.header};
  msghdr peeked{};
  peeked.msg_iov = &part;
  peeked.msg_iovlen = 1;
  ssize_t size = 0;
  while ((size = ::recvmsg(socket, &peeked, MSG_PEEK | MSG_TRUNC)) < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
    if (errno != EINTR) return fail_errno("hear from the peer");
  }
  if (size == 0) return fail(Code::Unavailable, "the peer is gone");
  const auto total = static_cast<std::size_t>(size);
  received.body.resize(
      total > sizeof received.header ? std::min(total - sizeof received.header, kMaxSpawnBody) : 0);
  std::array<iovec, 2> parts = {
      {part, {.iov_base = received.body.data(), .iov_len = received.body.size()}}};
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control;
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = received.body.empty() ? 1 : 2;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  while (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) < 0) {
    if (errno != EINTR) return fail_errno("hear from the peer");
  }
  received.descriptors = take_descriptors(message);
  TRY(check_message(received, total));
  return received;
}

}  // namespace mayfly
