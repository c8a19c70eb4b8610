#include "sandbox/jail_mounts.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace mayfly {
namespace {

// Any folder of the old root will do: the tmpfs covers it in this mount namespace only.
constexpr const char* kMountPoint = "/tmp";
constexpr unsigned long kRootFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

Result<Fd> open_source(const JailMount& mount) {
  Fd tree(::open_tree(AT_FDCWD, mount.source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!tree) return fail_errno(fmt::format("bind {}", mount.source));
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  if (mount.access == Access::ReadOnly) attributes.attr_set |= MOUNT_ATTR_RDONLY;
  if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    return fail_errno(fmt::format("set the mount attributes of {}", mount.source));
  }
  return tree;
}

Status attach(const JailMount& mount, const Fd& tree) {
  const std::string target = mount.target.substr(1);  // the working folder is the new root
  if (::mkdir(target.c_str(), 0755) != 0) return fail_errno(fmt::format("make {}", mount.target));
  if (::move_mount(tree.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return fail_errno(fmt::format("mount {}", mount.target));
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

Result<std::vector<Fd>> open_mount_sources(std::span<const JailMount> mounts) {
  std::vector<Fd> sources;
  for (const JailMount& mount : mounts) sources.push_back(TRY(open_source(mount)));
  return sources;
}

Status enter_root(std::span<const JailMount> mounts, std::vector<Fd> sources) {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return fail_errno("keep mounts from propagating");
  }
  if (::mount("mayfly", kMountPoint, "tmpfs", kRootFlags, "mode=0755,size=64k,nr_inodes=32") != 0) {
    return fail_errno(fmt::format("mount the empty root at {}", kMountPoint));
  }
  if (::chdir(kMountPoint) != 0) return fail_errno("chdir to the empty root");
  for (std::size_t i = 0; i < mounts.size(); ++i) TRY(attach(mounts[i], sources.at(i)));
  TRY(attach_proc());
  return leave_old_root();
}

}  // namespace mayfly
