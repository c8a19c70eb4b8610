#include "sandbox/process_jail.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "sandbox/process_handle.h"
#include "sandbox/secret_files.h"

namespace mayfly {
namespace {

// One turn takes at most this much of a jail's output: a flood waits, it does not starve others.
constexpr std::size_t kLogBytesPerTurn = 64 * 1024;

}  // namespace

Exit exit_of(const JailExit& report) {
  if (report.code == CLD_EXITED) return {.code = report.status, .signal = 0};
  return {.code = 0, .signal = report.status};
}

JailProcess::JailProcess(Loop& loop, Making making, Events events)
    : loop_(loop), making_(std::move(making)), events_(std::move(events)) {}

JailProcess::~JailProcess() {
  init_watch_.reset();
  control_watch_.reset();
  reports_watch_.reset();
  log_watch_.reset();
}

Status JailProcess::make(BlankProcess& blank, std::function<void(std::string_view line)> on_log) {
  SocketPair control = TRY(make_seqpacket_pair());
  Pipe reports = TRY(make_pipe());
  Pipe log = TRY(make_pipe());
  TRY(set_nonblocking(control.ours.get()));
  TRY(set_nonblocking(reports.read_end.get()));
  TRY(set_nonblocking(log.read_end.get()));
  // A jail that writes more than is read loses lines; it must not wait for the server.
  TRY(set_nonblocking(log.write_end.get()));
  std::vector<int> descriptors = {control.theirs.get(), reports.write_end.get(),
                                  log.write_end.get()};
  Fd secrets;
  if (making_.secrets) {
    secrets = TRY(pack_secrets(*making_.secrets));
    making_.secrets.reset();
    making_.plan.has_secrets = true;
    descriptors.push_back(secrets.get());
  }
  if (making_.groups) {
    for (const int join : making_.groups->template_joins()) descriptors.push_back(join);
  }
  const JailRequest request{.plan = making_.plan,
                            .session = making_.session,
                            .threads = making_.threads,
                            .request = making_.request,
                            .descriptors = descriptors};
  TRY(blank.make_jail(request, [this](Result<JailInit> init) { handle_born(std::move(init)); }));
  control_ = std::move(control.ours);
  reports_ = std::move(reports.read_end);
  log_ = std::move(log.read_end);
  lines_.emplace(std::move(on_log));
  return {};
}

Status JailProcess::fit(BlankProcess& blank, Fitting fitting, BlankProcess::OnFitted on_fitted) {
  // The kernel drops what there is no room for.
  if (init_.spaces.size() != 2) return fail(Code::Aborted, "the jail's namespaces were lost");
  JailPlan plan = full_plan(making_.plan.profile);
  plan.ids = making_.plan.ids;
  plan.mounts = {std::move(fitting.artifact)};
  std::vector<int> descriptors;
  for (const Fd& space : init_.spaces) descriptors.push_back(space.get());
  Fd secrets;
  if (fitting.secrets) {
    secrets = TRY(pack_secrets(*fitting.secrets));
    plan.has_secrets = true;
    descriptors.push_back(secrets.get());
  }
  if (making_.groups) TRY(making_.groups->limit(fitting.limits));
  TRY(blank.fit_jail(plan, descriptors, std::move(on_fitted)));
  init_.spaces.clear();
  if (log_watch_) read_log();
  lines_->finish();
  lines_.emplace(std::move(fitting.on_log));
  making_.label = std::move(fitting.label);
  return {};
}

void JailProcess::handle_born(Result<JailInit> init) {
  if (!init) {
    events_.on_failed(std::move(init).error());
    finish();
    return;
  }
  init_ = *std::move(init);
  if (kill_when_born_) std::ignore = kill_process(init_.pidfd);
  if (making_.idle) {
    const Status idle = make_idle(init_.pid, *making_.idle);
    if (!idle)
      LOG(warn, "a guest is not idle", {"label", label()}, {"error", idle.error().message});
  }
  init_watch_ = std::make_unique<Watch>(loop_, init_.pidfd.get(), Trigger::Readable,
                                        [this](Ready) { handle_init_exit(); });
  reports_watch_ = std::make_unique<Watch>(loop_, reports_.get(), Trigger::Readable,
                                           [this](Ready) { read_reports(); });
  log_watch_ =
      std::make_unique<Watch>(loop_, log_.get(), Trigger::Readable, [this](Ready) { read_log(); });
  if (control_) {
    control_watch_ = std::make_unique<Watch>(loop_, control_.get(), Trigger::Readable,
                                             [this](Ready) { events_.on_control(); });
  }
}

void JailProcess::kill() {
  if (ended_) return;
  if (!init_.pidfd) {
    kill_when_born_ = true;
    return;
  }
  if (const Status killed = kill_process(init_.pidfd); !killed) {
    LOG(error, "jail not killed", {"label", label()}, {"error", killed.error().message});
  }
}

void JailProcess::end_now() {
  init_watch_.reset();
  control_watch_.reset();
  reports_watch_.reset();
  log_watch_.reset();
  if (ended_ || !init_.pidfd) return;
  kill();
  wait_and_reap(init_.pidfd);
  ended_ = true;
}

void JailProcess::finish_control() {
  if (control_) ::shutdown(control_.get(), SHUT_WR);
}

void JailProcess::close_control() {
  control_watch_.reset();
  control_.reset();
}

bool JailProcess::worker_oom() const {
  return making_.groups && making_.groups->template_oom_kills().value_or(0) > 0;
}

Bytes JailProcess::worker_memory() const {
  const auto worker = init_.pid == 0 ? std::nullopt : first_child(init_.pid);
  return worker ? private_memory(*worker).value_or(Bytes{}) : Bytes{};
}

bool JailProcess::worker_has_threads() const {
  const auto worker = init_.pid == 0 ? std::nullopt : first_child(init_.pid);
  return worker && threads_of(*worker).value_or(1) > 1;
}

void JailProcess::read_reports() {
  if (!reports_watch_) return;
  while (true) {
    JailExit report{};
    const ssize_t got = ::read(reports_.get(), &report, sizeof report);
    if (got == 0) reports_watch_.reset();  // jail init is gone
    if (got != sizeof report) return;
    if (report.pid == kWorkerPid && !worker_exit_) {
      worker_exit_ = exit_of(report);
      worker_exit_->oom = worker_oom();
    }
    events_.on_process_exit(report);
  }
}

void JailProcess::read_log() {
  std::array<char, kLogBytesPerTurn> bytes;
  const ssize_t got = ::read(log_.get(), bytes.data(), bytes.size());
  if (got > 0) lines_->append({bytes.data(), static_cast<std::size_t>(got)});
  if (got == 0) log_watch_.reset();
}

void JailProcess::handle_init_exit() {
  const auto exit = reap(init_.pidfd);
  if (!exit) return;
  // What its processes still had to say lies in the pipes.
  read_reports();
  while (control_watch_ && events_.on_control()) {
    // Nobody is left to add to it.
  }
  if (log_watch_) read_log();
  lines_->finish();
  if (!worker_exit_) {
    worker_exit_ = *exit;
    worker_exit_->oom = worker_oom();
  }
  finish();
}

void JailProcess::finish() {
  CHECK(!ended_);
  ended_ = true;
  init_watch_.reset();
  control_watch_.reset();
  reports_watch_.reset();
  log_watch_.reset();
  Ended ended{.worker = worker_exit_.value_or(Exit{}), .peak_memory = {}};
  if (making_.groups) {
    ended.peak_memory = making_.groups->template_peak_memory().value_or(Bytes{});
    ended.cpu = making_.groups->cpu_total().value_or(Duration::zero());
  }
  // Empty now, so removing it does not wait.
  const auto on_end = std::move(events_.on_end);
  on_end(ended);  // destroys this
}

}  // namespace mayfly
