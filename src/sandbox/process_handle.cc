#include "sandbox/process_handle.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <ctime>
#include <string>
#include <string_view>

#include "base/file.h"

namespace mayfly {
namespace {

// linux/pidfd.h of 6.13, which Debian 12's headers do not have.
struct PidfdInfo {
  std::uint64_t mask;
  std::uint64_t cgroup;
  std::uint32_t pid;
  std::uint32_t rest[11];
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr unsigned long kPidfdGetInfo = _IOWR(0xFF, 11, PidfdInfo);
constexpr std::uint64_t kPidfdInfoPid = 1;

// The number after `key` in a /proc file's text.
std::optional<std::int64_t> number_after(std::string_view text, std::string_view key) {
  const std::size_t at = text.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view rest = text.substr(at + key.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
  std::int64_t value = 0;
  if (std::from_chars(rest.data(), rest.data() + rest.size(), value).ec != std::errc())
    return std::nullopt;
  return value;
}

Exit exit_of(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return {.code = info.si_status, .signal = 0};
  return {.code = 0, .signal = info.si_status};
}

constexpr auto kPidfdId = static_cast<idtype_t>(3);  // P_PIDFD

}  // namespace

Result<Fd> open_pidfd(pid_t pid) {
  Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return fail_errno("pidfd_open");
  return pidfd;
}

Result<pid_t> pid_of(const Fd& pidfd) {
  PidfdInfo info{.mask = kPidfdInfoPid, .cgroup = 0, .pid = 0, .rest = {}};
  if (::ioctl(pidfd.get(), kPidfdGetInfo, &info) == 0) return static_cast<pid_t>(info.pid);
  if (errno == ESRCH) return fail(Code::NotFound, "the process is gone");
  const std::string text = TRY(read_file(fmt::format("/proc/self/fdinfo/{}", pidfd.get())));
  const auto pid = number_after(text, "\nPid:");
  if (!pid) return fail(Code::InvalidArgument, "the descriptor is not a pidfd");
  if (*pid <= 0) return fail(Code::NotFound, "the process is gone");
  return static_cast<pid_t>(*pid);
}

Status kill_process(const Fd& pidfd) {
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0) == 0 || errno == ESRCH)
    return {};
  return fail_errno("kill");
}

std::optional<Exit> reap(const Fd& pidfd) {
  siginfo_t info{};
  const int result = ::waitid(kPidfdId, static_cast<id_t>(pidfd.get()), &info, WEXITED | WNOHANG);
  if (result != 0)
    return errno == EINTR ? std::nullopt : std::optional(Exit{});  // reaped by another
  if (info.si_pid == 0) return std::nullopt;
  return exit_of(info);
}

Exit wait_and_reap(const Fd& pidfd) {
  siginfo_t info{};
  while (::waitid(kPidfdId, static_cast<id_t>(pidfd.get()), &info, WEXITED) != 0) {
    if (errno != EINTR) return {};
  }
  return exit_of(info);
}

std::optional<Duration> cpu_time(pid_t pid, const Fd& pidfd) {
  // MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of linux/posix-timers.h. The number may have been
  // given away meanwhile: the pidfd, asked after the reading, says whether it was still ours.
  const auto clock = static_cast<clockid_t>(~static_cast<unsigned>(pid) << 3 | 2U);
  timespec spent{};
  if (::clock_gettime(clock, &spent) != 0) return std::nullopt;
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), 0, nullptr, 0) != 0) return std::nullopt;
  return std::chrono::seconds(spent.tv_sec) + std::chrono::nanoseconds(spent.tv_nsec);
}

std::optional<Bytes> private_memory(pid_t pid) {
  const auto text = read_file(fmt::format("/proc/{}/status", pid));
  if (!text) return std::nullopt;
  const auto value = number_after(*text, "\nRssAnon:");
  if (!value) return std::nullopt;
  return kib(static_cast<std::uint64_t>(*value));
}

std::optional<std::int64_t> threads_of(pid_t pid) {
  const auto text = read_file(fmt::format("/proc/{}/status", pid));
  if (!text) return std::nullopt;
  return number_after(*text, "\nThreads:");
}

std::optional<pid_t> first_child(pid_t pid) {
  const auto text = read_file(fmt::format("/proc/{0}/task/{0}/children", pid));
  if (!text) return std::nullopt;
  const auto child = number_after(*text, "");
  if (!child) return std::nullopt;
  return static_cast<pid_t>(*child);
}

}  // namespace mayfly
