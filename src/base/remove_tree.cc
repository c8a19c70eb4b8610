#include "base/remove_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace mayfly {
namespace {

// A rename onto a folder that holds something, or onto a file, fails: then another name is tried.
constexpr int kNameAttempts = 1000;

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

// Its own offset, so that a folder may be read again from the beginning.
Result<Directory> read_directory(const Fd& folder) {
  Fd again(::openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!again) return fail_errno("open a folder");
  Directory directory(::fdopendir(again.get()));
  if (!directory) return fail_errno("read a folder");
  again.release();
  return directory;
}

// The next name in it; nullptr at its end.
const char* next_name(DIR* directory) {
  while (const dirent* entry = ::readdir(directory)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") return entry->d_name;
  }
  return nullptr;
}

// A folder that its owner made unreadable is opened through its path-only descriptor, which no
// rename or symbolic link can lead astray.
Result<Fd> open_to_empty(int parent, const char* name) {
  const Fd place(::openat(parent, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC));
  if (!place) return fail_errno("open a folder");
  const std::string self = fmt::format("/proc/self/fd/{}", place.get());
  struct stat status{};
  if (::fstat(place.get(), &status) != 0) return fail_errno("look at a folder");
  if ((status.st_mode & S_IRWXU) != S_IRWXU && ::chmod(self.c_str(), S_IRWXU) != 0)
    return fail_errno("make a folder readable");
  return open_file(self, O_RDONLY | O_DIRECTORY);
}

// In one of the two ways; whether nothing is left of it.
bool is_unlinked(const Fd& folder, const char* name) {
  return ::unlinkat(folder.get(), name, 0) == 0 || errno == ENOENT ||
         ::unlinkat(folder.get(), name, AT_REMOVEDIR) == 0;
}

// Empties a folder level by level: what a folder in it holds is removed, or moved up into it when
// that is a folder again. So a tree of any depth costs a handful of descriptors, and no path is
// longer than a name. Names are hostile and stand in no message.
class Emptying {
 public:
  explicit Emptying(Fd root) : root_(std::move(root)) {}

  Status run() {
    do {
      moved_ = false;
      failure_ = {};
      const Directory entries = TRY(read_directory(root_));
      while (const char* name = next_name(entries.get())) remember(remove_entry(name));
    } while (moved_);
    return std::move(failure_);
  }

 private:
  Status remove_entry(const char* name) {
    if (is_unlinked(root_, name)) return {};
    if (errno == ENOTDIR) return fail_errno("remove a file");
    const Fd folder = TRY(open_to_empty(root_.get(), name));
    TRY(flatten(folder));
    if (::unlinkat(root_.get(), name, AT_REMOVEDIR) != 0) return fail_errno("remove a folder");
    return {};
  }

  Status flatten(const Fd& folder) {
    const Directory entries = TRY(read_directory(folder));
    while (const char* name = next_name(entries.get())) {
      if (!is_unlinked(folder, name)) remember(move_up(folder, name));
    }
    return {};
  }

  Status move_up(const Fd& folder, const char* name) {
    if (errno == ENOTDIR) return fail_errno("remove a file");
    // Moving a folder takes the right to write it, for its "..".
    TRY(open_to_empty(folder.get(), name));
    for (int attempt = 0; attempt < kNameAttempts; ++attempt) {
      const std::string fresh = fmt::format("removing-{}", next_++);
      if (::renameat(folder.get(), name, root_.get(), fresh.c_str()) == 0) {
        moved_ = true;
        return {};
      }
      if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) break;
    }
    return fail_errno("move a folder up");
  }

  void remember(Status done) {
    if (!done && failure_) failure_ = std::move(done);
  }

  Fd root_;
  std::uint64_t next_ = 0;
  bool moved_ = false;
  Status failure_;  // the first one of this round
};

}  // namespace

Status remove_tree(const Path& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  const auto empty_and_remove = [&]() -> Status {
    if (::rmdir(path.c_str()) == 0) return {};
    if (errno == ENOTDIR) return fail_errno("remove a file");
    Fd folder = TRY(open_to_empty(AT_FDCWD, path.c_str()));
    TRY(Emptying(std::move(folder)).run());
    if (::rmdir(path.c_str()) != 0) return fail_errno("remove the folder");
    return {};
  };
  if (Status done = empty_and_remove(); !done)
    return std::unexpected(std::move(done).error().in(path.native()));
  return {};
}

}  // namespace mayfly
