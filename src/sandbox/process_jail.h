// One jail, seen from the server: its init (a child of this process), its control socket, its
// reports, its log, its control groups. Kept by the spawner until it is reaped. Loop thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/loop.h"
#include "async/watch.h"
#include "base/fd.h"
#include "core/secret.h"
#include "sandbox/cgroup.h"
#include "sandbox/idle.h"
#include "sandbox/jail.h"
#include "sandbox/log_lines.h"
#include "sandbox/process_blank.h"
#include "sandbox/spawner.h"

namespace mayfly {

// The first child of jail init: the template, or a job.
inline constexpr pid_t kWorkerPid = 2;

// A jail that talks without end waits for its next turn, as others do.
inline constexpr int kControlPerTurn = 16;

Exit exit_of(const JailExit& report);

class JailProcess {
 public:
  struct Ended {
    Exit worker;  // of the template or job; its oom says whether the kernel killed in its group
    Bytes peak_memory;
    Duration cpu{};  // of everything in the jail; 0: unknown
  };
  struct Events {
    // Something can be read from the control socket. Reads at most kControlPerTurn messages;
    // whether it stopped there.
    std::function<bool()> on_control;
    std::function<void(const JailExit&)> on_process_exit;
    // Nothing runs in it any more. Last event; exactly once, unless make() failed.
    std::function<void(const Ended&)> on_end;
    // It could not be made; on_end follows.
    std::function<void(Error)> on_failed;
  };
  struct Making {
    std::string label;
    std::uint32_t slot = 0;  // of the host's ids
    JailPlan plan;
    SessionTime session = SessionTime::BeforeFork;
    std::uint32_t threads = 1;
    std::string request;
    Secrets secrets = {};  // let go once they are handed over
    std::optional<VersionCgroup> groups;
    std::optional<IdleCpu> idle{};  // a guest; nullopt: none
  };

  JailProcess(Loop& loop, Making making, Events events);
  // Must have ended, or never been made; or the caller has killed and reaped it (end_now).
  ~JailProcess();
  JailProcess(const JailProcess&) = delete;
  JailProcess& operator=(const JailProcess&) = delete;

  Status make(BlankProcess& blank, std::function<void(std::string_view line)> on_log);
  // Everything in it, at once; on_end follows. Before it is born: as soon as it is.
  void kill();
  // For the end of the server: kills and waits for the end. No event follows.
  void end_now();

  // Of one that awaits a version: the version's artifact, secrets and limits, and from now on its
  // name. `on_fitted` is called later, also when this is gone.
  struct Fitting {
    std::string label;
    JailMount artifact;
    Secrets secrets = {};
    VersionLimits limits;
    std::function<void(std::string_view line)> on_log;
  };
  Status fit(BlankProcess& blank, Fitting fitting, BlankProcess::OnFitted on_fitted);

  const std::string& label() const { return making_.label; }
  std::optional<VersionCgroup>& groups() { return making_.groups; }
  int control() const { return control_.get(); }
  // The worker reads an end of file after what was sent; what it sends is still heard.
  void finish_control();
  void close_control();
  // How the kernel's killer counts in the worker's group.
  bool worker_oom() const;
  // Private bytes of the worker; 0: unknown.
  Bytes worker_memory() const;
  // Whether the worker has more than one thread, as far as can be told.
  bool worker_has_threads() const;
  // Reports that have arrived but were not looked at yet.
  void read_reports();

 private:
  void handle_born(Result<JailInit> init);
  void handle_init_exit();
  void read_log();
  void finish();

  Loop& loop_;
  Making making_;
  Events events_;
  Fd control_;
  Fd reports_;
  Fd log_;
  JailInit init_;
  std::optional<LogLines> lines_;
  std::unique_ptr<Watch> init_watch_;
  std::unique_ptr<Watch> control_watch_;
  std::unique_ptr<Watch> reports_watch_;
  std::unique_ptr<Watch> log_watch_;
  std::optional<Exit> worker_exit_;
  bool kill_when_born_ = false;
  bool ended_ = false;
};

}  // namespace mayfly
