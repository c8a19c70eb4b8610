// The kernel's rules that this rests on: whoever owns a user namespace has every capability in it
// after joining it (user_namespaces(7)); a mount namespace can be joined, and copied, with
// CAP_SYS_ADMIN in the user namespace that owns it; a tree of mounts that open_tree(2) detached
// keeps its attributes wherever move_mount(2) attaches it.
#include <fmt/format.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <tuple>

#include "sandbox/jail.h"
#include "sandbox/jail_mounts.h"

namespace mayfly {
namespace {

Status join(const Fd& space, int kind) {
  if (::setns(space.get(), kind) != 0) return fail_errno("join the jail");
  return {};
}

// In the process that does it. The sources are opened in a copy of this side's mounts, as jail init
// opens its own: with the host's id, which may walk to them.
Status fit(const JailPlan& plan, std::span<const Fd> spaces) {
  TRY(join(spaces[0], CLONE_NEWUSER));
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno("copy the mounts");
  const std::vector<Fd> folders = TRY(open_folders(plan));
  TRY(join(spaces[1], CLONE_NEWNS));
  TRY(take_inside_ids());
  return attach_version(plan, folders);
}

std::string read_all(const Fd& pipe) {
  std::string text;
  std::array<char, 512> part;
  while (true) {
    const ssize_t got = ::read(pipe.get(), part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(part.data(), static_cast<std::size_t>(got));
  }
}

}  // namespace

Status fit_jail(const JailPlan& plan, std::span<const Fd> spaces) {
  TRY(validate(plan));
  if (spaces.size() != 2) return fail(Code::InvalidArgument, "not a jail that awaits a version");
  Pipe complaint = TRY(make_pipe());
  const pid_t helper = TRY(fork_worker());
  if (helper == 0) {
    const Status fitted = fit(plan, spaces);
    if (!fitted) std::ignore = write_all(complaint.write_end.get(), fitted.error().message);
    ::_exit(fitted ? 0 : 1);
  }
  complaint.write_end.reset();
  const std::string why = read_all(complaint.read_end);
  int status = 0;
  while (::waitpid(helper, &status, 0) < 0 && errno == EINTR) {
    // Again.
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return fail(Code::Aborted, fmt::format("give a jail its version: {}", why));
}

}  // namespace mayfly
