// Small files and folders. Errors name the path.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

using Path = std::filesystem::path;

inline constexpr std::size_t kSmallFile = 16 * 1024 * 1024;

Result<Fd> open_file(const Path& path, int flags, mode_t mode = 0600);  // adds O_CLOEXEC
Result<std::string> read_file(const Path& path, std::size_t limit = kSmallFile);
// Durable and atomic: tmp → fsync → rename → fsync of the folder. A reader sees the old or the new
// bytes.
Status write_file_durably(const Path& path, std::string_view bytes);
Status make_directories(const Path& path);
Status sync_directory(const Path& path);
Result<std::uint64_t> file_size(const Path& path);

// A fresh folder under `parent` (the system's temporary folder by default), removed with its
// content.
class TempDir {
 public:
  static Result<TempDir> create(const Path& parent = std::filesystem::temp_directory_path());
  TempDir(TempDir&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TempDir& operator=(TempDir&&) = delete;
  ~TempDir();
  const Path& path() const { return path_; }

 private:
  explicit TempDir(Path path) : path_(std::move(path)) {}
  Path path_;
};

}  // namespace mayfly
