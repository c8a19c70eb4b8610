#include "runner/batch/server_link.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace mayfly {
namespace {

constexpr std::size_t kMaxServerMessage = 16 * 1024;

Status send_text(int socket, std::string_view text) {
  while (::send(socket, text.data(), text.size(), MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return fail_errno("send to the server");
  }
  return {};
}

Status write_at_begin(int file, std::string_view bytes) {
  std::size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t count =
        ::pwrite(file, bytes.data() + written, bytes.size() - written, static_cast<off_t>(written));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("write a request");
    written += static_cast<std::size_t>(count);
  }
  return {};
}

Result<std::string> read_body(int file, std::uint64_t bytes) {
  std::string body(bytes, '\0');
  std::size_t done = 0;
  while (done < body.size()) {
    const ssize_t count =
        ::pread(file, body.data() + done, body.size() - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("read a reply");
    if (count == 0) return fail(Code::DataLoss, "a reply is shorter than the server said");
    done += static_cast<std::size_t>(count);
  }
  return body;
}

Result<bool> wait_readable(int socket, std::chrono::milliseconds wait) {
  pollfd waiting{.fd = socket, .events = POLLIN, .revents = 0};
  while (true) {
    const int ready = ::poll(&waiting, 1, static_cast<int>(wait.count()));
    if (ready >= 0) return ready > 0;
    if (errno != EINTR) return fail_errno("poll");
  }
}

// One datagram, and the descriptor beside it.
struct Datagram {
  std::string text;
  Fd descriptor;
};

Result<Datagram> receive_datagram(int socket) {
  Datagram datagram{.text = std::string(kMaxServerMessage, '\0'), .descriptor = {}};
  iovec part{.iov_base = datagram.text.data(), .iov_len = datagram.text.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return fail_errno("receive from the server");
  const cmsghdr* rights = CMSG_FIRSTHDR(&message);
  if (rights != nullptr && rights->cmsg_type == SCM_RIGHTS) {
    int number = -1;
    std::memcpy(&number, CMSG_DATA(rights), sizeof number);
    datagram.descriptor = Fd(number);
  }
  if (got == 0) return fail(Code::Unavailable, "the server hung up");
  datagram.text.resize(static_cast<std::size_t>(got));
  return datagram;
}

}  // namespace

Result<ServerLink> ServerLink::open(int control_fd, const Path& work, std::uint32_t slots) {
  std::vector<Fd> files;
  for (std::uint32_t slot = 0; slot < slots; ++slot) {
    files.push_back(
        TRY(open_file(work / fmt::format("predict-{}", slot), O_RDWR | O_CREAT | O_TRUNC, 0644)));
  }
  return ServerLink(control_fd, std::move(files));
}

Status ServerLink::ask(const PredictMessage& message, std::string_view body) {
  TRY(write_at_begin(slots_[message.slot].get(), body));
  return send_text(control_fd_, to_json(WorkerMessage(message)));
}

Status ServerLink::tell(const BatchProgress& progress) {
  return send_text(control_fd_, to_json(WorkerMessage(progress)));
}

Result<std::optional<ServerLink::Received>> ServerLink::receive(std::chrono::milliseconds wait) {
  if (!TRY(wait_readable(control_fd_, wait))) return std::nullopt;
  const Datagram datagram = TRY(receive_datagram(control_fd_));
  Received received{.message = TRY(parse_server_message(datagram.text)), .body = {}};
  const auto* answer = std::get_if<BatchAnswer>(&received.message);
  if (answer != nullptr && answer->status == 200) {
    if (!datagram.descriptor)
      return fail(Code::DataLoss, "a reply came without the descriptor of its body");
    received.body = TRY(read_body(datagram.descriptor.get(), answer->bytes));
  }
  return received;
}

}  // namespace mayfly
