#include "sandbox/idle.h"

#include <fmt/format.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace mayfly {
namespace {

std::vector<pid_t> children_of(pid_t process) {
  const auto text = read_file(fmt::format("/proc/{0}/task/{0}/children", process));
  std::vector<pid_t> children;
  if (!text) return children;
  for (std::string_view left = *text; !left.empty();) {
    pid_t child = 0;
    const auto [end, error] = std::from_chars(left.data(), left.data() + left.size(), child);
    if (error != std::errc()) break;
    children.push_back(child);
    left.remove_prefix(static_cast<std::size_t>(end - left.data()));
    left.remove_prefix(std::min(left.find_first_not_of(' '), left.size()));
  }
  return children;
}

Status make_one_idle(pid_t process, IdleCpu cpu) {
  constexpr int kIdle = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0);
  if (::syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, process, kIdle) != 0)
    return fail_errno("ioprio_set");
  const sched_param parameters{};
  if (cpu == IdleCpu::ByScheduler && ::sched_setscheduler(process, SCHED_IDLE, &parameters) != 0)
    return fail_errno("sched_setscheduler");
  return {};
}

}  // namespace

// First itself: what it forks from then on is idle; then what it had forked before.
Status make_idle(pid_t process, IdleCpu cpu) {
  TRY(make_one_idle(process, cpu));
  for (const pid_t child : children_of(process)) TRY(make_one_idle(child, cpu));
  return {};
}

}  // namespace mayfly
