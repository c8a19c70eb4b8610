#include "sandbox/cgroup_fs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <system_error>

namespace mayfly {

Status RealCgroupFs::make(const Path& group) {
  if (::mkdir(group.c_str(), 0755) != 0 && errno != EEXIST) {
    return fail_errno(fmt::format("make the group {}", group.native()));
  }
  return {};
}

Status RealCgroupFs::remove(const Path& group) {
  if (::rmdir(group.c_str()) != 0 && errno != ENOENT) {
    return fail_errno(fmt::format("remove the group {}", group.native()));
  }
  return {};
}

bool RealCgroupFs::exists(const Path& path) { return ::access(path.c_str(), F_OK) == 0; }

Result<std::string> RealCgroupFs::read(const Path& file) { return read_file(file); }

// One write call: the kernel parses each as a whole.
Status RealCgroupFs::write(const Path& file, std::string_view text) {
  const Fd opened(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!opened || ::write(opened.get(), text.data(), text.size()) < 0) {
    return fail_errno(fmt::format("write \"{}\" to {}", text, file.native()));
  }
  return {};
}

// v1's `tasks` moves the one thread that writes and takes no lock for it. `cgroup.procs` takes
// cgroup_threadgroup_rwsem, whose first writer after a pause waits for an RCU grace period: 10 ms.
Result<Fd> RealCgroupFs::open_for_joining(const Path& group) {
  const Path tasks = group / "tasks";
  return open_file(exists(tasks) ? tasks : group / "cgroup.procs", O_WRONLY);
}

std::vector<std::string> RealCgroupFs::children(const Path& group) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto entry = std::filesystem::directory_iterator(group, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (entry->is_directory(error)) names.push_back(entry->path().filename());
  }
  return names;
}

void RealCgroupFs::kill(pid_t pid) { ::kill(pid, SIGKILL); }

void RealCgroupFs::wait_briefly() {
  const timespec pause{.tv_sec = 0, .tv_nsec = 2'000'000};
  ::nanosleep(&pause, nullptr);
}

}  // namespace mayfly
