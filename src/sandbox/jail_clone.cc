#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "sandbox/jail.h"

namespace mayfly {
namespace {

struct LayerFlag {
  Layer layer;
  unsigned long flag;
};
constexpr std::array<LayerFlag, 6> kNamespaces = {{{Layer::UserNs, CLONE_NEWUSER},
                                                   {Layer::PidNs, CLONE_NEWPID},
                                                   {Layer::MountNs, CLONE_NEWNS},
                                                   {Layer::NetNs, CLONE_NEWNET},
                                                   {Layer::IpcNs, CLONE_NEWIPC},
                                                   {Layer::UtsNs, CLONE_NEWUTS}}};

// glibc's fork takes no flags, and clone3 is refused inside jails, so this is the system call. The
// order of its first three arguments is the same on x86-64 and arm64. It runs no atfork handlers:
// callers are single-threaded, so no lock is held by a thread that is not copied.
Result<JailedProcess> raw_clone(unsigned long flags) {
  int pidfd = -1;
  const bool wants_pidfd = (flags & CLONE_PIDFD) != 0;
  const long pid = ::syscall(SYS_clone, flags, 0UL, wants_pidfd ? &pidfd : nullptr, 0UL, 0UL);
  if (pid < 0) return fail_errno("clone");
  // In the child the number is the parent's: the kernel stores it after the memory is copied.
  return JailedProcess{.pid = static_cast<pid_t>(pid), .pidfd = Fd(pid == 0 ? -1 : pidfd)};
}

Status write_map(pid_t pid, std::string_view name, std::string_view text) {
  const std::string path = fmt::format("/proc/{}/{}", pid, name);
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return fail_errno(fmt::format("open {}", path));
  // One write, or the kernel takes it for a second map.
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return fail_errno(fmt::format("write \"{}\" to {}", text, path));
  }
  return {};
}

Status write_maps(pid_t pid, const IdMapping& ids) {
  // An ordinary user may map groups only after giving up setgroups; root keeps it until jail init
  // has dropped the supplementary groups with it.
  if (::geteuid() != 0) TRY(write_map(pid, "setgroups", "deny"));
  TRY(write_map(pid, "uid_map", fmt::format("{} {} 1", kInsideId, ids.user)));
  return write_map(pid, "gid_map", fmt::format("{} {} 1", kInsideId, ids.group));
}

// The kernel keeps from a namespace's init what its own processes send it, except signals it has a
// handler for. So jail init inherits none of the blank's. A closed pipe or a file at its limit is
// an error to whoever writes, not a death.
void forget_signal_handlers() {
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  for (const int number : {SIGPIPE, SIGXFSZ}) ::signal(number, SIG_IGN);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void run_child(Pipe go, JailBody& body, JailBirth birth) {
  go.write_end.reset();
  char byte = 0;
  // End of file: the blank gave up, or died.
  if (::read(go.read_end.get(), &byte, 1) != 1) ::_exit(1);
  go.read_end.reset();
  forget_signal_handlers();
  ::_exit(body(std::move(birth)));
}

// Now, while the process can be looked at: later it is not dumpable.
Status open_spaces(JailedProcess& init) {
  for (const std::string_view space : {"user", "mnt"}) {
    const std::string path = fmt::format("/proc/{}/ns/{}", init.pid, space);
    init.spaces.emplace_back(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!init.spaces.back()) return fail_errno(fmt::format("open {}", path));
  }
  return {};
}

Status admit(JailedProcess& init, const JailPlan& plan, const Pipe& go) {
  if (plan.awaits_version) TRY(open_spaces(init));
  if (plan.layers().has(Layer::UserNs)) TRY(write_maps(init.pid, plan.ids));
  return write_all(go.write_end.get(), "g");
}

}  // namespace

Result<JailedProcess> clone_jail(const JailPlan& plan, JailBody body) {
  TRY(validate(plan));
  JailBirth birth{.server = Fd(static_cast<int>(::syscall(SYS_pidfd_open, ::getppid(), 0)))};
  if (!birth.server) return fail_errno("open the server's pidfd");
  Pipe go = TRY(make_pipe());
  unsigned long flags = CLONE_PARENT | CLONE_PIDFD | SIGCHLD;
  for (const LayerFlag& space : kNamespaces) {
    if (plan.layers().has(space.layer)) flags |= space.flag;
  }
  Result<JailedProcess> init = raw_clone(flags);
  if (!init) {
    return std::unexpected(std::move(init).error().in(
        "make the jail's namespaces (as an ordinary user the kernel must allow unprivileged user "
        "namespaces; `mayfly doctor` says which are missing)"));
  }
  if (init->pid == 0) run_child(std::move(go), body, std::move(birth));
  if (Status admitted = admit(*init, plan, go); !admitted) {
    ::syscall(SYS_pidfd_send_signal, init->pidfd.get(), SIGKILL, nullptr, 0);
    init->stillborn = std::move(admitted).error().in("let jail init into its jail");
  }
  return init;
}

Result<pid_t> fork_worker() {
  const JailedProcess worker = TRY(raw_clone(SIGCHLD));
  return worker.pid;
}

Result<JailedProcess> clone_instance() { return raw_clone(CLONE_PARENT | CLONE_PIDFD | SIGCHLD); }

void run_reaper(int report_fd) {
  while (true) {
    siginfo_t info{};
    if (::waitid(P_ALL, 0, &info, WEXITED) != 0) {
      if (errno == EINTR) continue;
      return;  // ECHILD: alone
    }
    if (report_fd < 0) continue;
    const JailExit report{.pid = info.si_pid, .code = info.si_code, .status = info.si_status};
    std::ignore = ::write(report_fd, &report, sizeof report);
  }
}

Status close_all_but(std::span<const int> keep) {
  CHECK(keep.size() <= kMaxKept);
  unsigned first = 0;
  for (const int kept : keep) {
    CHECK(kept >= static_cast<int>(first));
    const auto number = static_cast<unsigned>(kept);
    if (number > first && ::syscall(SYS_close_range, first, number - 1, 0) != 0) {
      return fail_errno("close_range");
    }
    first = number + 1;
  }
  if (::syscall(SYS_close_range, first, ~0U, 0) != 0) return fail_errno("close_range");
  return {};
}

Status tighten_instance(const InstanceTightening& how, const SeccompFilters& filters) {
  for (const int group : how.cgroups) {
    if (Status joined = write_all(group, "0"); !joined) {
      return std::unexpected(std::move(joined).error().in("join the instance's memory group"));
    }
  }
  TRY(close_all_but(how.keep));
  return install_seccomp(filters.of(how.profile));
}

}  // namespace mayfly
