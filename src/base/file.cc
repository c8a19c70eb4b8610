#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <system_error>

#include "base/log.h"
#include "base/remove_tree.h"

namespace mayfly {

Result<Fd> open_file(const Path& path, int flags, mode_t mode) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return fail_errno(path.native());
  return Fd(fd);
}

Result<std::string> read_file(const Path& path, std::size_t limit) {
  const Fd file = TRY(open_file(path, O_RDONLY));
  auto text = read_all_fd(file.get(), limit);
  if (!text) return std::unexpected(std::move(text).error().in(path.native()));
  return text;
}

Status sync_directory(const Path& path) {
  const Fd directory = TRY(open_file(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(directory.get()) != 0) return fail_errno(fmt::format("fsync {}", path.native()));
  return {};
}

Status write_file_durably(const Path& path, std::string_view bytes) {
  Path temporary = path;
  temporary += fmt::format(".{}.tmp", ::getpid());
  {
    const Fd file = TRY(open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600));
    auto written = write_all(file.get(), bytes);
    if (written && ::fsync(file.get()) != 0) written = fail_errno("fsync");
    if (!written) {
      ::unlink(temporary.c_str());
      return std::unexpected(std::move(written).error().in(path.native()));
    }
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    auto error = errno_error(fmt::format("rename to {}", path.native()), errno);
    ::unlink(temporary.c_str());
    return std::unexpected(std::move(error));
  }
  return sync_directory(path.parent_path().empty() ? Path(".") : path.parent_path());
}

Status make_directories(const Path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error)
    return std::unexpected(errno_error(fmt::format("create {}", path.native()), error.value()));
  return {};
}

Result<std::uint64_t> file_size(const Path& path) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return std::unexpected(errno_error(path.native(), error.value()));
  return size;
}

Result<TempDir> TempDir::create(const Path& parent) {
  std::string pattern = parent / "mayfly-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) return fail_errno(fmt::format("mkdtemp {}", pattern));
  return TempDir(Path(pattern));
}

TempDir::~TempDir() {
  if (path_.empty()) return;
  // What stays goes with the next start, where the folder lies in the data folder's tmp/.
  if (const Status gone = remove_tree(path_); !gone)
    LOG(warn, "temporary folder not removed", {"error", gone.error().message});
}

}  // namespace mayfly
