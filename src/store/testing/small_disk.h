// Disks that fill up, for tests of what happens then.
#pragma once

#include <csignal>
#include <cstdint>
#include <optional>

#include <sys/mount.h>
#include <sys/resource.h>

#include <fmt/format.h>

#include "base/file.h"

namespace mayfly {

// A tmpfs of a given size, where this process may mount one (as root); else nullopt.
class SmallDisk {
 public:
  static std::optional<SmallDisk> mount(std::uint64_t bytes) {
    auto folder = TempDir::create();
    if (!folder) return std::nullopt;
    const std::string options = fmt::format("size={}", bytes);
    if (::mount("tmpfs", folder->path().c_str(), "tmpfs", 0, options.c_str()) != 0) {
      return std::nullopt;
    }
    return SmallDisk(*std::move(folder));
  }
  SmallDisk(SmallDisk&&) = default;
  SmallDisk& operator=(SmallDisk&&) = delete;
  ~SmallDisk() {
    if (!folder_.path().empty()) ::umount2(folder_.path().c_str(), MNT_DETACH);
  }
  const Path& path() const { return folder_.path(); }

 private:
  explicit SmallDisk(TempDir folder) : folder_(std::move(folder)) {}
  TempDir folder_;
};

// While it lives no file of this process grows beyond `bytes`: EFBIG, which needs no privileges.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::uint64_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limited{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limited);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    (void)std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace mayfly
