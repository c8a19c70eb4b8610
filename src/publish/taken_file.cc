#include "publish/taken_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <vector>

#include "store/digest.h"

namespace mayfly {
namespace {

constexpr std::size_t kPiece = 256 * 1024;

}  // namespace

Result<std::string> hash_file(int fd) {
  std::vector<std::byte> chunk(kPiece);
  Sha256 hash;
  while (true) {
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read");
    if (got == 0) return to_string(hash.digest());
    hash.update(std::span(chunk).first(static_cast<std::size_t>(got)));
  }
}

Status own_file(int fd, mode_t mode) {
  if (::fchown(fd, ::geteuid(), ::getegid()) != 0) return fail_errno("fchown");
  if (::fchmod(fd, mode) != 0) return fail_errno("fchmod");
  return {};
}

}  // namespace mayfly
