// The blank, seen from the server: starts mayfly-runner, starts it again when it dies, and asks it
// for jails. Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "async/loop.h"
#include "async/timer.h"
#include "async/watch.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"
#include "sandbox/jail_plan.h"
#include "sandbox/log_lines.h"
#include "sandbox/spawn_protocol.h"

namespace mayfly {

// What jail init was born as: a child of this process.
struct JailInit {
  pid_t pid = 0;
  Fd pidfd;
  std::vector<Fd> spaces = {};  // of a jail that awaits a version: for fit_jail()
};

struct JailRequest {
  const JailPlan& plan;
  SessionTime session = SessionTime::BeforeFork;
  std::uint32_t threads = 1;
  std::string_view request = {};  // of a job
  // Borrowed: control, status, log, secrets where the plan has some, cgroup.procs...
  std::span<const int> descriptors;
};

class BlankProcess {
 public:
  using OnInit = std::move_only_function<void(Result<JailInit>)>;
  using OnFitted = std::move_only_function<void(Status)>;
  using OnLog = std::function<void(std::string_view line)>;

  BlankProcess(Loop& loop, Path runner, OnLog on_log);
  // Kills the blank and waits for its end.
  ~BlankProcess();
  BlankProcess(const BlankProcess&) = delete;
  BlankProcess& operator=(const BlankProcess&) = delete;

  Status start();
  // Ends it and waits for that. Jails it had made by then are still handed over.
  void stop();
  // `on_init` is called exactly once, later, unless this returns an error or is destroyed first.
  Status make_jail(const JailRequest& request, OnInit on_init);

  // Gives a jail that awaits a version the plan's mounts and secrets. `descriptors`, borrowed: its
  // spaces, secrets where the plan has some. `on_fitted` as on_init above.
  Status fit_jail(const JailPlan& plan, std::span<const int> descriptors, OnFitted on_fitted);

  // Of ONNX Runtime; empty until the blank is ready for the first time.
  const std::string& runtime_version() const { return runtime_version_; }
  // Once, when the blank is ready, or cannot become so.
  void on_ready(std::move_only_function<void(Status)> callback) { on_ready_ = std::move(callback); }
  pid_t pid() const { return pid_; }  // 0: there is none now
  bool ready() const { return ready_; }

 private:
  void handle_messages();
  void handle(SpawnMessage message);
  void finish_start(std::uint64_t id, Result<JailInit> init);
  void finish_fitting(std::uint64_t id, const Status& fitted);
  void handle_exit();
  void read_log();
  void say_ready(Status status);

  Loop& loop_;
  Path runner_;
  Fd pidfd_;
  Fd control_;
  Fd log_;
  LogLines lines_;
  std::unique_ptr<Watch> exit_watch_;
  std::unique_ptr<Watch> control_watch_;
  std::unique_ptr<Watch> log_watch_;
  Timer restart_;
  Duration back_off_;
  pid_t pid_ = 0;
  bool ready_ = false;
  std::string complaint_;  // why it did not become ready
  std::string runtime_version_;
  std::uint64_t next_id_ = 1;
  std::map<std::uint64_t, OnInit> starting_;
  std::map<std::uint64_t, OnFitted> fitting_;
  std::move_only_function<void(Status)> on_ready_;
};

}  // namespace mayfly
