#include "publish/taken_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <span>
#include <utility>

#include "core/manifest.h"
#include "core/reason.h"
#include "store/digest.h"

namespace mayfly {
namespace {

constexpr std::size_t kPiece = 256 * 1024;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

std::unexpected<Error> bad_entry(std::string_view path, std::string_view why) {
  return refuse(reason::kPublishFailed, fmt::format("'{}' {}", path, why));
}

class TreeWalk {
 public:
  TreeWalk(const TreeLimits& limits, const std::function<Status(const TakenFile&)>& visit)
      : limits_(limits), visit_(visit) {}

  Status take(Fd folder, const std::string& path, int depth) {
    if (depth > limits_.depth) return bad_entry(path, "lies too deep");
    TRY(own_file(folder.get(), 0755));
    const int number = folder.get();
    const std::unique_ptr<DIR, CloseFolder> entries(::fdopendir(number));
    if (entries == nullptr) return fail_errno(path);
    (void)folder.release();  // closed with `entries`
    while (const dirent* entry = ::readdir(entries.get())) {
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (++entries_ > limits_.entries) return bad_entry(path, "is one file too many");
      TRY(take_entry(number, entry->d_name,
                     path.empty() ? std::string(name) : path + "/" + entry->d_name, depth));
    }
    return {};
  }

 private:
  Status take_entry(int folder, const char* name, const std::string& path, int depth) {
    TRY(check_artifact_path(path));
    Fd file(::openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
    if (!file) return bad_entry(path, "cannot be opened, or is a link");
    struct stat status{};
    if (::fstat(file.get(), &status) != 0) return fail_errno(path);
    if (S_ISDIR(status.st_mode)) return take(std::move(file), path, depth + 1);
    if (!S_ISREG(status.st_mode) || status.st_nlink != 1)
      return bad_entry(path, "is not a plain file of its own");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    bytes_ += size;
    if (bytes_ > limits_.bytes) return bad_entry(path, "is one byte too many");
    TRY(own_file(file.get(), 0444));
    return visit_({.path = path, .file = file.get(), .size = size});
  }

  const TreeLimits& limits_;
  const std::function<Status(const TakenFile&)>& visit_;
  std::size_t entries_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace

Result<std::string> hash_file(int fd, const ReadPace& pace) {
  const auto chunk = std::make_unique_for_overwrite<std::byte[]>(kPiece);
  Sha256 hash;
  while (true) {
    const ssize_t got = ::read(fd, chunk.get(), kPiece);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read");
    if (got == 0) return to_string(hash.digest());
    hash.update(std::span(chunk.get(), static_cast<std::size_t>(got)));
    if (pace) TRY(pace(static_cast<std::uint64_t>(got)));
  }
}

Status own_file(int fd, mode_t mode) {
  if (::fchown(fd, ::geteuid(), ::getegid()) != 0) return fail_errno("fchown");
  if (::fchmod(fd, mode) != 0) return fail_errno("fchmod");
  return {};
}

Status take_tree(Fd folder, const TreeLimits& limits,
                 const std::function<Status(const TakenFile&)>& visit) {
  return TreeWalk(limits, visit).take(std::move(folder), "", 0);
}

}  // namespace mayfly
