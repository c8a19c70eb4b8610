#include "cli/folder_watch.h"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace mayfly {
namespace {

constexpr int kQuiet = 200;  // milliseconds without an event: an editor has finished
constexpr std::uint32_t kEvents =
    IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR;

// What editors write beside a file while it is open.
bool is_scratch(std::string_view name) {
  return name.empty() || name.front() == '.' || name.front() == '#' || name.back() == '~' ||
         name.ends_with(".swp") || name.ends_with(".swx") || name.ends_with(".tmp") ||
         name == "4913" || is_litter(name);
}

}  // namespace

bool is_litter(std::string_view folder) {
  constexpr std::array<std::string_view, 6> kLitter = {
      "__pycache__", ".git", ".venv", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache"};
  return std::ranges::find(kLitter, folder) != kLitter.end();
}

Result<FolderWatch> FolderWatch::open(Path folder) {
  Fd inotify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify) return fail_errno("inotify_init1");
  FolderWatch watch(std::move(folder), std::move(inotify));
  TRY(watch.watch_all());
  return watch;
}

// Folders that are watched already stay so.
Status FolderWatch::watch_all() {
  const auto add = [this](const Path& path) -> Status {
    if (::inotify_add_watch(inotify_.get(), path.c_str(), kEvents) >= 0 || errno == ENOENT)
      return {};
    return fail_errno(path.native());
  };
  TRY(add(folder_));
  std::error_code error;
  for (auto entry = std::filesystem::recursive_directory_iterator(folder_, error);
       !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code unseen;
    if (!entry->is_directory(unseen) || entry->is_symlink(unseen)) continue;
    if (is_litter(entry->path().filename().native())) {
      entry.disable_recursion_pending();
    } else {
      TRY(add(entry->path()));
    }
  }
  return {};
}

bool FolderWatch::drain() {
  alignas(inotify_event) std::array<char, 16 * 1024> buffer;
  bool worth_it = false;
  while (true) {
    const ssize_t got = ::read(inotify_.get(), buffer.data(), buffer.size());
    if (got <= 0) return worth_it;
    for (std::size_t at = 0; at < static_cast<std::size_t>(got);) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof event);
      const char* name = buffer.data() + at + sizeof event;
      worth_it =
          worth_it || (event.mask & IN_Q_OVERFLOW) != 0 || (event.len > 0 && !is_scratch(name));
      at += sizeof event + event.len;
    }
  }
}

Result<FolderWatch::Event> FolderWatch::wait(int also) {
  bool changed = false;
  while (true) {
    std::array<pollfd, 2> wanted = {pollfd{.fd = inotify_.get(), .events = POLLIN, .revents = 0},
                                    pollfd{.fd = also, .events = POLLIN, .revents = 0}};
    const int ready = ::poll(wanted.data(), wanted.size(), changed ? kQuiet : -1);
    if (ready < 0 && errno != EINTR) return fail_errno("poll");
    if (wanted[1].revents != 0) return Event::Interrupted;
    if (ready > 0) changed = drain() || changed;
    if (ready == 0 && changed) {
      TRY(watch_all());
      return Event::Changed;
    }
  }
}

}  // namespace mayfly
