// Making a jail, step by step, each called inside the process it concerns:
//
//   blank ── clone_jail ──► jail init (pid 1): enter_jail, forks its worker, run_reaper
//                              └── worker (pid 2, the template or a publish job)
//                                     └── clone_instance ──► instance: tighten_instance
//
// Jail init is a child of the *server* (CLONE_PARENT), as instances are children of jail init: the
// blank's end harms no jail and the template's end harms no instance. Killing jail init kills all
// that is in the jail. The processes are single-threaded when they are cloned.
//
// Nothing in a jail survives the server: jail init has PDEATHSIG = SIGKILL, and looks after setting
// it whether the server was already gone. The signal follows the server's *thread* that started the
// blank, so that thread must live as long as the server.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "sandbox/jail_plan.h"
#include "sandbox/seccomp.h"

namespace mayfly {

// A cloned process, not owned: dropping the value kills nothing.
struct JailedProcess {
  pid_t pid = 0;  // in the caller's pid namespace
  Fd pidfd;
  // Of clone_jail: it could not be let into its jail and was killed. Its parent reaps it.
  std::optional<Error> stillborn = {};
  // Of clone_jail, where the plan awaits a version: for fit_jail.
  std::vector<Fd> spaces = {};
};

// What jail init starts with: a pidfd of the process whose end ends the jail.
struct JailBirth {
  Fd server;
};
// Runs in the new process; what it returns is the exit code.
using JailBody = std::move_only_function<int(JailBirth)>;

// Clones jail init into the plan's namespaces and maps its ids. Called in the blank, whose parent
// is the server. `body` runs once the maps are written, with every signal at its default
// (SIGPIPE and SIGXFSZ ignored). When the maps cannot be written the new process is killed and
// comes back `stillborn`.
Result<JailedProcess> clone_jail(const JailPlan& plan, JailBody body);

// In jail init: everything from cgroups to the system-call filter, in the one order in which each
// step still may do what it needs. After an error the process must exit.
Status enter_jail(const JailPlan& plan, const SeccompFilters& filters, JailBirth birth);

// Of enter_jail and fit_jail: from the host's id to kInsideId of the user namespace that this
// process is in, whose capabilities it keeps.
Status take_inside_ids();

// In the blank: mounts what a jail that awaits a version lacked, the plan's mounts and its secrets,
// from outside. A process of its own joins the jail's namespaces for that, with the power that the
// owner of a user namespace has in it, and ends; nothing in the jail gains or runs anything. Waits
// for it. `spaces`: as clone_jail gave them. After an error the jail must not be used.
Status fit_jail(const JailPlan& plan, std::span<const Fd> spaces);

// In jail init, after enter_jail: forks the worker. `pid` is 0 in the worker.
Result<pid_t> fork_worker();

// In jail init: reaps every process of the jail, and the orphans, until none is left. Each end is
// reported as a JailExit on `report_fd` unless it is -1; a report that cannot be written is
// dropped.
struct JailExit {
  pid_t pid;   // inside the jail
  int code;    // CLD_EXITED, CLD_KILLED, CLD_DUMPED
  int status;  // exit code or signal
};
void run_reaper(int report_fd);

// In the template: an instance, child of jail init. `pid` is 0 in the instance, which must call
// tighten_instance before it touches a request.
Result<JailedProcess> clone_instance();

// In a fresh instance, within 100 µs: joins its own memory group, closes every descriptor that is
// not named, and installs the smaller filter.
struct InstanceTightening {
  Profile profile = Profile::Instance;  // or ThreadedInstance
  std::span<const int> cgroups = {};    // files to join control groups by; closed afterwards
  std::span<const int> keep = {};       // ascending; at most kMaxKept
};
inline constexpr std::size_t kMaxKept = 16;
Status tighten_instance(const InstanceTightening& how, const SeccompFilters& filters);

// Closes every descriptor but those named, in ascending order.
Status close_all_but(std::span<const int> keep);

}  // namespace mayfly
