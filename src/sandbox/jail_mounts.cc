#include "sandbox/jail_mounts.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "sandbox/secret_files.h"

namespace mayfly {
namespace {

// Any folder of the old root will do: the tmpfs covers it in this mount namespace only.
constexpr const char* kMountPoint = "/tmp";
constexpr unsigned long kRootFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

Result<Fd> open_source(const JailMount& mount) {
  Fd tree(::open_tree(AT_FDCWD, mount.source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!tree) return fail_errno(fmt::format("bind {}", mount.source));
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  if (mount.access != Access::Code && mount.access != Access::Programs)
    attributes.attr_set |= MOUNT_ATTR_NOEXEC;
  if (mount.access != Access::ReadWrite) attributes.attr_set |= MOUNT_ATTR_RDONLY;
  attributes.propagation = MS_PRIVATE;
  if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    return fail_errno(fmt::format("set the mount attributes of {}", mount.source));
  }
  return tree;
}

// `target` is relative to the working folder, which is the new root.
Status move_to(const Fd& tree, const std::string& target) {
  if (::move_mount(tree.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return fail_errno(fmt::format("mount /{}", target));
  }
  return {};
}

Status make_folder(const std::string& target) {
  if (::mkdir(target.c_str(), 0755) != 0) return fail_errno(fmt::format("make /{}", target));
  return {};
}

// Programs count on these being there.
constexpr std::array<const char*, 3> kDevices = {"dev/null", "dev/zero", "dev/urandom"};

Result<std::vector<Fd>> open_devices() {
  std::vector<Fd> devices;
  for (const char* device : kDevices) {
    const std::string path = fmt::format("/{}", device);
    Fd tree(::open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    if (!tree) return fail_errno(fmt::format("bind {}", path));
    devices.push_back(std::move(tree));
  }
  return devices;
}

Status attach_devices(const std::vector<Fd>& devices) {
  TRY(make_folder("dev"));
  for (std::size_t i = 0; i < devices.size(); ++i) {
    const char* target = kDevices.at(i);
    const Fd file(::open(target, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444));
    if (!file) return fail_errno(fmt::format("make /{}", target));
    TRY(move_to(devices[i], target));
  }
  return {};
}

Status attach_scratch(const std::string& target, std::uint64_t bytes) {
  TRY(make_folder(target));
  const std::string options = fmt::format("mode=0700,size={},nr_inodes=16k", bytes);
  if (::mount("mayfly", target.c_str(), "tmpfs", kRootFlags, options.c_str()) != 0) {
    return fail_errno(fmt::format("mount /{}", target));
  }
  return {};
}

// Where a version comes later. What is mounted then lies beneath a folder that Landlock knows
// already (its rules are of folders: from the root of a mount it climbs to the folder that holds
// the mount point), and has the paths that it has in every jail.
Status leave_room_for_version() {
  TRY(make_folder("given"));
  for (const std::string name : {"artifact", "secrets"}) {
    const std::string place = fmt::format("given/{}", name);
    TRY(make_folder(place));
    if (::symlink(place.c_str(), name.c_str()) != 0)
      return fail_errno(fmt::format("link /{}", name));
  }
  return {};
}

// ONNX Runtime resolves what it opened through /proc/self/fd before it trusts external data. This
// /proc shows each process itself and nothing else: no other process (hidepid), not even those of
// this pid namespace, and no kernel files (subset=pid); Landlock denies opening anything in it.
// Where the host's own /proc is masked, as in many containers, the kernel refuses the mount
// (EPERM): models without external data work there all the same.
Status attach_proc() {
  if (::mkdir("proc", 0555) != 0) return fail_errno("make /proc");
  if (::mount("proc", "proc", "proc", kRootFlags | MS_RDONLY, "hidepid=ptraceable,subset=pid") !=
          0 &&
      errno != EPERM) {
    return fail_errno("mount /proc");
  }
  return {};
}

Status leave_old_root() {
  // pivot_root(2), "pivot_root(".", ".")": the old root lands on top of the new one and is
  // detached.
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return fail_errno("pivot_root");
  if (::umount2(".", MNT_DETACH) != 0) return fail_errno("detach the old root");
  if (::chdir("/") != 0) return fail_errno("chdir to the new root");
  constexpr unsigned long kSealed = MS_REMOUNT | MS_BIND | MS_RDONLY | kRootFlags;
  if (::mount(nullptr, "/", nullptr, kSealed, nullptr) != 0) {
    return fail_errno("make the new root read-only");
  }
  return {};
}

}  // namespace

Result<std::vector<Fd>> open_folders(const JailPlan& plan) {
  std::vector<Fd> folders;
  for (const JailMount& mount : plan.mounts) folders.push_back(TRY(open_source(mount)));
  return folders;
}

Result<MountSources> open_mount_sources(const JailPlan& plan) {
  MountSources sources{.folders = TRY(open_folders(plan)), .devices = {}};
  if (is_python(plan.profile)) sources.devices = TRY(open_devices());
  return sources;
}

Status enter_root(const JailPlan& plan, MountSources sources) {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return fail_errno("keep mounts from propagating");
  }
  if (::mount("mayfly", kMountPoint, "tmpfs", kRootFlags, "mode=0755,size=64k,nr_inodes=64") != 0) {
    return fail_errno(fmt::format("mount the empty root at {}", kMountPoint));
  }
  if (::chdir(kMountPoint) != 0) return fail_errno("chdir to the empty root");
  for (std::size_t i = 0; i < plan.mounts.size(); ++i) {
    const std::string target = plan.mounts[i].target.substr(1);
    TRY(make_folder(target));
    TRY(move_to(sources.folders.at(i), target));
  }
  if (!sources.devices.empty()) TRY(attach_devices(sources.devices));
  if (const std::uint64_t bytes = plan.limits.scratch_bytes; bytes > 0) {
    TRY(attach_scratch("tmp", bytes));
    if (!sources.devices.empty()) TRY(attach_scratch("dev/shm", bytes));
  }
  if (plan.has_secrets) {
    const std::string folder(kSecretsFolder.substr(1));
    TRY(make_folder(folder));
    TRY(mount_secrets(plan.secrets, folder));
  }
  if (plan.awaits_version) TRY(leave_room_for_version());
  TRY(attach_proc());
  return leave_old_root();
}

Status attach_version(const JailPlan& plan, const std::vector<Fd>& folders) {
  if (::chdir("/") != 0) return fail_errno("chdir to the jail's root");
  for (std::size_t i = 0; i < plan.mounts.size(); ++i) {
    TRY(move_to(folders.at(i), fmt::format("given{}", plan.mounts[i].target)));
  }
  if (plan.has_secrets) TRY(mount_secrets(plan.secrets, fmt::format("given{}", kSecretsFolder)));
  return {};
}

}  // namespace mayfly
