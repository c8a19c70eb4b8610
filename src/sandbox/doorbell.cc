#include "sandbox/doorbell.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "sandbox/pass_descriptors.h"

namespace mayfly {

Status send_message(int socket, const DoorbellMessage& message, int descriptor) {
  iovec part{.iov_base = const_cast<DoorbellMessage*>(&message), .iov_len = sizeof(message)};
  auto sent = send_with_descriptors(socket, std::span(&part, 1),
                                    std::span(&descriptor, descriptor >= 0 ? 1 : 0));
  if (!sent) return std::unexpected(std::move(sent).error().in("ring the doorbell"));
  return {};
}

Result<std::optional<ReceivedMessage>> receive_message(int socket) {
  ReceivedMessage received;
  iovec part{.iov_base = &received.message, .iov_len = sizeof(received.message)};
  // Room for one descriptor only: the kernel closes what a hostile peer sends beyond it.
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(ucred))>
      control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t got = 0;
  while ((got = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC)) < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
    if (errno != EINTR) return fail_errno("read the doorbell");
  }
  if (got == 0) return fail(Code::Unavailable, "the peer closed the doorbell");
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
    if (item->cmsg_level != SOL_SOCKET) continue;
    if (item->cmsg_type == SCM_CREDENTIALS) {
      ucred sender{};
      std::memcpy(&sender, CMSG_DATA(item), sizeof(sender));
      received.pid = sender.pid;
    }
    if (item->cmsg_type == SCM_RIGHTS) {
      const std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int descriptor = -1;
        std::memcpy(&descriptor, CMSG_DATA(item) + i * sizeof(int), sizeof(int));
        received.descriptor = Fd(descriptor);  // an earlier one is closed
      }
    }
  }
  if (got != sizeof(DoorbellMessage))
    return fail(Code::DataLoss, "the peer sent a malformed doorbell message");
  return received;
}

}  // namespace mayfly
