#include "sandbox/doctor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "core/reason.h"
#include "sandbox/caps.h"
#include "sandbox/landlock.h"
#include "sandbox/seccomp.h"

namespace mayfly {
namespace {

constexpr int kNewestLandlock = 6;

// What a child found: 0, or an errno.
template <typename Action>
int in_child(unsigned long namespaces, Action action) {
  const long pid = ::syscall(SYS_clone, namespaces | SIGCHLD, 0UL, nullptr, 0UL, 0UL);
  if (pid < 0) return errno;
  if (pid == 0) ::_exit(action());
  int status = 0;
  while (::waitpid(static_cast<pid_t>(pid), &status, 0) < 0) {
    if (errno != EINTR) return errno;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : EFAULT;
}

std::string error_text(int error) { return errno_error("the kernel answers", error).message; }

LayerHealth healthy(Layer layer, std::string detail) {
  return {.layer = layer, .state = LayerState::Active, .detail = std::move(detail), .mend = {}};
}

LayerHealth missing(Layer layer, int error, std::string mend) {
  return {.layer = layer,
          .state = LayerState::Missing,
          .detail = error_text(error),
          .mend = std::move(mend)};
}

struct NamespaceProbe {
  Layer layer;
  unsigned long flag;
  std::string_view option;  // of the kernel's build
};
constexpr std::array<NamespaceProbe, 6> kNamespaceProbes = {
    {{Layer::UserNs, CLONE_NEWUSER, "CONFIG_USER_NS"},
     {Layer::PidNs, CLONE_NEWPID, "CONFIG_PID_NS"},
     {Layer::MountNs, CLONE_NEWNS, "the mount namespace"},
     {Layer::NetNs, CLONE_NEWNET, "CONFIG_NET_NS"},
     {Layer::IpcNs, CLONE_NEWIPC, "CONFIG_IPC_NS"},
     {Layer::UtsNs, CLONE_NEWUTS, "CONFIG_UTS_NS"}}};

// Each is made together with a user namespace, as the jail makes it.
LayerHealth examine_namespace(const NamespaceProbe& probe) {
  const int error = in_child(CLONE_NEWUSER | probe.flag, [] { return 0; });
  if (error == 0) return healthy(probe.layer, "made in a probe");
  if (error == EPERM || error == ENOSPC || error == EACCES) {
    return missing(probe.layer, error,
                   "allow unprivileged user namespaces: sysctl user.max_user_namespaces=10000, and "
                   "where they exist kernel.unprivileged_userns_clone=1 and "
                   "kernel.apparmor_restrict_unprivileged_userns=0");
  }
  return missing(probe.layer, error, fmt::format("use a kernel with {}", probe.option));
}

LayerHealth examine_no_new_privs() {
  const int error = in_child(0, [] {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
    return ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : EINVAL;
  });
  if (error == 0) return healthy(Layer::NoNewPrivs, "set in a probe");
  return missing(Layer::NoNewPrivs, error, "use Linux 5.15 or later");
}

LayerHealth examine_undumpable() {
  const int error = in_child(0, [] {
    if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return errno;
    return ::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : EINVAL;
  });
  if (error == 0) return healthy(Layer::Undumpable, "set in a probe");
  return missing(Layer::Undumpable, error, "use Linux 5.15 or later");
}

LayerHealth examine_seccomp() {
  const auto program = compile_seccomp(Profile::Instance);
  if (!program) {
    return {.layer = Layer::Seccomp,
            .state = LayerState::Missing,
            .detail = program.error().message,
            .mend = "install libseccomp 2.5 or later"};
  }
  const int error = in_child(0, [&program] {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
    if (!install_seccomp(*program)) return errno;
    // Unfiltered the call fails with ENOENT.
    return ::open("/nonexistent", O_RDONLY) < 0 && errno == EPERM ? 0 : EINVAL;
  });
  if (error == 0) {
    return healthy(Layer::Seccomp, fmt::format("{} instructions, refused a call", program->size()));
  }
  return missing(Layer::Seccomp, error, "use a kernel with CONFIG_SECCOMP_FILTER");
}

LayerHealth examine_landlock() {
  const int version = landlock_version();
  if (version == 0) {
    return missing(Layer::Landlock, ENOSYS,
                   "use Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK and landlock in the boot "
                   "parameter lsm=");
  }
  const int error = in_child(0, [] {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
    if (!restrict_files({})) return errno;
    return ::open("/etc", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES ? 0 : EINVAL;
  });
  if (error != 0)
    return missing(Layer::Landlock, error, "enable Landlock: boot parameter lsm=landlock,…");
  LayerHealth health = healthy(Layer::Landlock, fmt::format("version {}, refused a file", version));
  if (version < kNewestLandlock) {
    health.state = LayerState::Degraded;
    health.mend = fmt::format("Linux 6.12 brings version {}: TCP, abstract sockets, signals",
                              kNewestLandlock);
  }
  return health;
}

LayerHealth examine_rlimits() {
  const int error = in_child(0, [] {
    const rlimit few{.rlim_cur = 3, .rlim_max = 3};
    if (::setrlimit(RLIMIT_NOFILE, &few) != 0) return errno;
    return ::open("/", O_RDONLY | O_DIRECTORY) < 0 && errno == EMFILE ? 0 : EINVAL;
  });
  if (error == 0) return healthy(Layer::Rlimits, "a limit refused a descriptor");
  return missing(Layer::Rlimits, error, "look for a security module that forbids setrlimit");
}

// As in a jail: all capabilities of a namespace of its own, then none.
LayerHealth examine_capabilities() {
  const int error = in_child(CLONE_NEWUSER, [] {
    if (!drop_all_capabilities()) return EPERM;
    const auto left = holds_capabilities();
    return left && !*left ? 0 : EINVAL;
  });
  if (error == 0) return healthy(Layer::Capabilities, "dropped in a probe");
  return missing(Layer::Capabilities, error, "allow user namespaces: see the first line");
}

LayerHealth examine_cgroups(const CgroupSupport& support) {
  LayerHealth health = healthy(Layer::Cgroup, support.describe());
  const bool all = support.limits_memory() && support.limits_cpu() && support.limits_processes();
  const bool any = support.limits_memory() || support.limits_cpu() || support.limits_processes();
  if (all) return health;
  health.state = any ? LayerState::Degraded : LayerState::Missing;
  health.mend =
      "delegate the memory, cpu and pids controllers to the server: Delegate=yes in its "
      "systemd unit, or run it as root";
  return health;
}

}  // namespace

std::string_view to_string(LayerState state) {
  switch (state) {
    case LayerState::Active:
      return "active";
    case LayerState::Degraded:
      return "degraded";
    case LayerState::Missing:
      return "missing";
  }
  return "missing";
}

std::vector<LayerHealth> examine_layers(const CgroupSupport& cgroups) {
  std::vector<LayerHealth> layers;
  for (const NamespaceProbe& probe : kNamespaceProbes) layers.push_back(examine_namespace(probe));
  layers.push_back(examine_no_new_privs());
  layers.push_back(examine_undumpable());
  layers.push_back(examine_seccomp());
  layers.push_back(examine_landlock());
  layers.push_back(examine_rlimits());
  layers.push_back(examine_capabilities());
  layers.push_back(examine_cgroups(cgroups));
  return layers;
}

Status require_every_layer(const std::vector<LayerHealth>& layers) {
  std::string lacking;
  for (const LayerHealth& layer : layers) {
    if (layer.state != LayerState::Missing) continue;
    lacking += fmt::format("{}{} ({}; mend: {})", lacking.empty() ? "" : "; ",
                           to_string(layer.layer), layer.detail, layer.mend);
  }
  if (lacking.empty()) return {};
  return refuse(reason::kWeakIsolation,
                fmt::format("isolation_level is strict, but missing: {}", lacking));
}

}  // namespace mayfly
