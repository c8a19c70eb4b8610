// The order below is the security argument: each step still holds the power it needs and gives it
// up for those after it.
#include <fcntl.h>
#include <fmt/format.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <string_view>

#include "sandbox/caps.h"
#include "sandbox/jail.h"
#include "sandbox/jail_mounts.h"
#include "sandbox/landlock.h"
#include "sandbox/secret_files.h"

namespace mayfly {
namespace {

constexpr std::string_view kHostName = "mayfly";

Status join_cgroups(const JailPlan& plan) {
  for (const int group : plan.cgroups) {
    if (Status joined = write_all(group, "0"); !joined) {
      return std::unexpected(std::move(joined).error().in("join a cgroup"));
    }
  }
  return {};
}

// A credential change clears the death signal (prctl(2)), so this comes after take_inside_ids. The
// signal is sent by the server's exit; one that exited before the prctl is seen through its pidfd.
Status die_with_server(const JailBirth& birth) {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return fail_errno("set the death signal");
  pollfd server{.fd = birth.server.get(), .events = POLLIN, .revents = 0};
  if (::poll(&server, 1, 0) != 0) return fail(Code::Aborted, "the server is gone");
  return {};
}

Status set_host_name() {
  if (::sethostname(kHostName.data(), kHostName.size()) != 0) return fail_errno("sethostname");
  return {};
}

// Of the jail's own network: as long as it exists nobody else is on it.
Status bring_up_loopback() {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno("socket");
  ifreq loopback{.ifr_ifrn = {.ifrn_name = "lo"}, .ifr_ifru = {}};
  loopback.ifr_flags = IFF_UP;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &loopback) != 0) return fail_errno("bring up lo");
  return {};
}

Status set_limits(const JailLimits& limits) {
  struct Limit {
    __rlimit_resource resource;
    rlim_t value;
    std::string_view name;
  };
  const std::array<Limit, 8> all = {{{RLIMIT_NOFILE, limits.open_files, "open files"},
                                     {RLIMIT_NPROC, limits.processes, "processes"},
                                     {RLIMIT_FSIZE, limits.file_bytes, "file size"},
                                     {RLIMIT_CORE, 0, "core size"},
                                     {RLIMIT_MEMLOCK, 0, "locked memory"},
                                     {RLIMIT_MSGQUEUE, 0, "message queues"},
                                     {RLIMIT_NICE, 0, "niceness"},
                                     {RLIMIT_RTPRIO, 0, "real-time priority"}}};
  for (const Limit& limit : all) {
    rlimit now{};
    if (::getrlimit(limit.resource, &now) != 0) return fail_errno("getrlimit");
    const rlim_t value = std::min(limit.value, now.rlim_max);
    const rlimit wanted{.rlim_cur = value, .rlim_max = value};
    if (::setrlimit(limit.resource, &wanted) != 0) {
      return fail_errno(fmt::format("limit {}", limit.name));
    }
  }
  return {};
}

Status forbid_new_privileges() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("no_new_privs");
  return {};
}

Status become_undumpable() {
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return fail_errno("undumpable");
  return {};
}

Status restrict_to_mounts(const JailPlan& plan) {
  const bool mounted = plan.layers().has(Layer::MountNs);
  std::vector<LandlockRule> rules;
  for (const JailMount& mount : plan.mounts) {
    rules.push_back({.folder = mounted ? mount.target : mount.source, .access = mount.access});
  }
  // The jail's own; without a root of its own there are none.
  if (mounted && is_python(plan.profile)) {
    rules.push_back({.folder = "/dev", .access = Access::ReadWrite});
    if (plan.limits.scratch_bytes > 0)
      rules.push_back({.folder = "/tmp", .access = Access::ReadWrite});
    if (plan.has_secrets)
      rules.push_back({.folder = std::string(kSecretsFolder), .access = Access::ReadOnly});
    if (plan.awaits_version)
      rules.push_back({.folder = std::string(kGivenFolder), .access = Access::ReadOnly});
  }
  return restrict_files(rules, has_loopback(plan.profile) ? Tcp::Allowed : Tcp::None);
}

}  // namespace

// The raw calls: glibc's wrappers signal every thread of the process to follow, and there is only
// one.
Status take_inside_ids() {
  // Where the blank wrote "deny" the call is refused; the groups are then those of the ordinary
  // user who runs the server, and reach nothing that the mounts do not show.
  if (::syscall(SYS_setgroups, 0, nullptr) != 0 && errno != EPERM) return fail_errno("setgroups");
  const auto id = static_cast<long>(kInsideId);
  if (::syscall(SYS_setresgid, id, id, id) != 0) return fail_errno("setresgid");
  if (::syscall(SYS_setresuid, id, id, id) != 0) return fail_errno("setresuid");
  return {};
}

Status enter_jail(const JailPlan& plan, const SeccompFilters& filters, JailBirth birth) {
  TRY(validate(plan));
  const LayerSet layers = plan.layers();
  // While the kernel still takes this process for the blank's user: groups and sources are that
  // user's to open.
  if (layers.has(Layer::Cgroup)) TRY(join_cgroups(plan));
  MountSources sources;
  if (layers.has(Layer::MountNs)) sources = TRY(open_mount_sources(plan));
  // From here on an id that owns nothing outside, with the capabilities of its own namespace only.
  if (layers.has(Layer::UserNs)) TRY(take_inside_ids());
  TRY(die_with_server(birth));
  birth.server.reset();
  if (layers.has(Layer::MountNs)) TRY(enter_root(plan, std::move(sources)));
  if (layers.has(Layer::UtsNs)) TRY(set_host_name());
  if (has_loopback(plan.profile)) {
    if (!layers.has(Layer::NetNs))
      return fail(Code::FailedPrecondition, "a loopback is that of a network namespace");
    TRY(bring_up_loopback());
  }
  if (layers.has(Layer::Rlimits)) TRY(set_limits(plan.limits));
  if (layers.has(Layer::NoNewPrivs)) TRY(forbid_new_privileges());
  if (layers.has(Layer::Undumpable)) TRY(become_undumpable());
  if (layers.has(Layer::Landlock)) TRY(restrict_to_mounts(plan));
  if (layers.has(Layer::Capabilities)) TRY(drop_all_capabilities());
  if (layers.has(Layer::Seccomp)) TRY(install_seccomp(filters.of(plan.profile)));
  return {};
}

}  // namespace mayfly
