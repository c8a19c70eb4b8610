#include "identity/key_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace mayfly {

Result<std::optional<KeyBytes>> read_key_file(const Path& path, const KeyFileWords& words) {
  auto file = open_file(path, O_RDONLY);
  if (!file && file.error().code == Code::NotFound) return std::nullopt;
  if (!file) return std::unexpected(std::move(file).error());
  struct stat status{};
  if (::fstat(file->get(), &status) != 0) return fail_errno(path.native());
  if ((status.st_mode & 077) != 0) {
    return fail(Code::FailedPrecondition,
                fmt::format("{} may be used by others than its owner (mode {:04o}): chmod 600 it; "
                            "{}",
                            path.native(), status.st_mode & 07777, words.danger));
  }
  KeyBytes key{};
  auto bytes = read_all_fd(file->get(), key.size() + 1);
  if (!bytes) return std::unexpected(std::move(bytes).error().in(path.native()));
  if (bytes->size() != key.size()) {
    return fail(Code::DataLoss,
                fmt::format("{} must hold {} bytes; {}", path.native(), key.size(), words.loss));
  }
  std::memcpy(key.data(), bytes->data(), key.size());
  return key;
}

// Written aside and linked: whoever finds the file finds it whole, and none is ever replaced.
Result<KeyBytes> create_key_file(const Path& path, Rng& rng) {
  KeyBytes key{};
  rng.fill(key);
  Path aside = path;
  aside += ".new";
  ::unlink(aside.c_str());  // of a server that died here
  {
    const Fd file = TRY(open_file(aside, O_WRONLY | O_CREAT | O_EXCL, 0600));
    TRY(write_all(file.get(), {reinterpret_cast<const char*>(key.data()), key.size()}));
    if (::fsync(file.get()) != 0) return fail_errno(fmt::format("fsync {}", aside.native()));
  }
  const int linked = ::link(aside.c_str(), path.c_str());
  const int error = errno;
  ::unlink(aside.c_str());
  if (linked != 0)
    return std::unexpected(errno_error(fmt::format("make {}", path.native()), error));
  TRY(sync_directory(path.parent_path().empty() ? Path(".") : path.parent_path()));
  return key;
}

}  // namespace mayfly
