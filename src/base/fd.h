// Owners of file descriptors, from the line that creates them.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace mayfly {

// A file descriptor, closed on destruction. Move-only; -1 is "none".
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();
  Result<Fd> duplicate() const;  // close-on-exec

 private:
  int fd_ = -1;
};

struct Pipe {
  Fd read_end;
  Fd write_end;
};

// All are close-on-exec.
Result<Pipe> make_pipe();
struct SocketPair {
  Fd ours;
  Fd theirs;
};
Result<SocketPair> make_seqpacket_pair();  // AF_UNIX, SOCK_SEQPACKET: message boundaries are kept
Status set_nonblocking(int fd);

// Retry on EINTR and short counts. read_all_fd reads to the end of the file, at most `limit` bytes.
Status write_all(int fd, std::span<const std::byte> bytes);
Status write_all(int fd, std::string_view text);
Result<std::string> read_all_fd(int fd, std::size_t limit);

}  // namespace mayfly
