#include "sandbox/pass_descriptors.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "base/check.h"

namespace mayfly {

Status send_with_descriptors(int socket, std::span<iovec> parts, std::span<const int> descriptors,
                             int flags) {
  CHECK(descriptors.size() <= kMaxPassed);
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  // Only what is used is written: most messages carry nothing.
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMaxPassed * sizeof(int))> control;
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  }
  while (::sendmsg(socket, &message, MSG_NOSIGNAL | flags) < 0) {
    if (errno != EINTR) return fail_errno("send");
  }
  return {};
}

}  // namespace mayfly
