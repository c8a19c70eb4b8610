#include "sandbox/process_blank.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "base/log.h"
#include "core/reason.h"
#include "sandbox/process_handle.h"

namespace mayfly {
namespace {

constexpr Duration kFirstBackOff = std::chrono::milliseconds(100);
constexpr Duration kLongestBackOff = std::chrono::seconds(10);

// Between vfork and exec: system calls only, on values made before.
struct Exec {
  const char* path;
  char* const* arguments;
  char* const* environment;
  int control;
  int log;
  pid_t server;
};

[[noreturn]] void become_runner(const Exec& exec) {
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  // The death signal of the blank; jails have their own.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  const bool arranged = ::getppid() == exec.server && ::dup2(exec.control, kControlFd) >= 0 &&
                        ::dup2(exec.log, kLogFd) >= 0 && ::dup2(exec.log, kLogFd + 1) >= 0 &&
                        ::syscall(SYS_close_range, kLogFd + 2, ~0U, 0) == 0;
  if (arranged) ::execve(exec.path, exec.arguments, exec.environment);
  ::_exit(127);
}

// vfork: the server's memory is not copied, and its thread waits for the exec (about 1 ms).
Result<pid_t> spawn_runner(const Path& runner, const Fd& control, const Fd& log) {
  std::string name = "mayfly-runner";
  std::string word = "--blank";
  std::string no_telemetry = "ORT_DISABLE_TELEMETRY=1";
  // Heaps of huge pages make forks cheaper (measured: gbdt 180 → 80 µs).
  std::string huge_pages = "GLIBC_TUNABLES=glibc.malloc.hugetlb=1";
  // Symbols found at the first call would be looked up in every fork anew, page by page (measured:
  // 85 µs for one call of srandom).
  std::string bind_now = "LD_BIND_NOW=1";
  const std::array<char*, 3> arguments = {name.data(), word.data(), nullptr};
  const std::array<char*, 4> environment = {no_telemetry.data(), huge_pages.data(), bind_now.data(),
                                            nullptr};
  // Numbers above those they become: no dup2 may close what another still needs.
  const Fd safe_control = TRY(control.duplicate());
  const Fd safe_log = TRY(log.duplicate());
  const Exec exec{.path = runner.c_str(),
                  .arguments = arguments.data(),
                  .environment = environment.data(),
                  .control = safe_control.get(),
                  .log = safe_log.get(),
                  .server = ::getpid()};
  // NOLINTNEXTLINE(bugprone-unsafe-functions): posix_spawn cannot set the parent-death signal
  const pid_t pid = ::vfork();
  if (pid == 0) become_runner(exec);
  if (pid < 0) return fail_errno("fork");
  return pid;
}

// Where descriptors have run out the child ends: nobody could tell when it does.
Result<Fd> own_child(pid_t pid) {
  auto pidfd = open_pidfd(pid);
  if (!pidfd) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  return pidfd;
}

// The kernel drops a descriptor that there is no room for; the number stays the child's until it is
// reaped.
Result<JailInit> init_of(SpawnMessage message) {
  const pid_t pid = message.header.pid;
  if (!message.descriptors.empty()) {
    JailInit init{.pid = pid, .pidfd = std::move(message.descriptors[0])};
    for (Fd& space : std::span(message.descriptors).subspan(1))
      init.spaces.push_back(std::move(space));
    return init;
  }
  auto pidfd = own_child(pid);
  if (!pidfd) return std::unexpected(std::move(pidfd).error().in("take over a jail"));
  return JailInit{.pid = pid, .pidfd = *std::move(pidfd)};
}

}  // namespace

BlankProcess::BlankProcess(Loop& loop, Path runner, OnLog on_log)
    : loop_(loop),
      runner_(std::move(runner)),
      lines_(std::move(on_log)),
      restart_(loop,
               [this] {
                 if (const Status started = start(); !started) {
                   LOG(error, "runner not started", {"error", started.error().message});
                   restart_.arm_in(back_off_ = std::min(back_off_ * 2, kLongestBackOff));
                 }
               }),
      back_off_(kFirstBackOff) {}

BlankProcess::~BlankProcess() { stop(); }

void BlankProcess::stop() {
  restart_.cancel();
  exit_watch_.reset();
  log_watch_.reset();
  if (pid_ == 0) return;
  std::ignore = kill_process(pidfd_);
  wait_and_reap(pidfd_);
  pid_ = 0;
  if (control_watch_) handle_messages();
  control_watch_.reset();
}

Status BlankProcess::start() {
  if (::access(runner_.c_str(), X_OK) != 0)
    return fail_errno(fmt::format("run {}", runner_.native()));
  SocketPair sockets = TRY(make_seqpacket_pair());
  Pipe log = TRY(make_pipe());
  TRY(set_nonblocking(sockets.ours.get()));
  TRY(set_nonblocking(log.read_end.get()));
  TRY(set_nonblocking(log.write_end.get()));
  const pid_t pid = TRY(spawn_runner(runner_, sockets.theirs, log.write_end));
  pidfd_ = TRY(own_child(pid));
  pid_ = pid;
  control_ = std::move(sockets.ours);
  log_ = std::move(log.read_end);
  ready_ = false;
  complaint_.clear();
  exit_watch_ = std::make_unique<Watch>(loop_, pidfd_.get(), Trigger::Readable,
                                        [this](Ready) { handle_exit(); });
  control_watch_ = std::make_unique<Watch>(loop_, control_.get(), Trigger::Readable,
                                           [this](Ready) { handle_messages(); });
  log_watch_ =
      std::make_unique<Watch>(loop_, log_.get(), Trigger::Readable, [this](Ready) { read_log(); });
  return {};
}

Status BlankProcess::make_jail(const JailRequest& request, OnInit on_init) {
  if (pid_ == 0) return refuse(reason::kStartFailed, "mayfly-runner is being started again");
  const std::vector<std::byte> plan = TRY(encode_plan(request.plan));
  std::string body(reinterpret_cast<const char*>(plan.data()), plan.size());
  body += request.request;
  const SpawnHeader header{.kind = SpawnKind::StartJail,
                           .plan_bytes = static_cast<std::uint32_t>(plan.size()),
                           .id = next_id_,
                           .threads = request.threads,
                           .session = request.session};
  if (Status sent = send_spawn(control_.get(), header, body, request.descriptors); !sent) {
    return std::unexpected(std::move(sent).error().in("ask mayfly-runner for a jail"));
  }
  starting_.emplace(next_id_++, std::move(on_init));
  return {};
}

Status BlankProcess::fit_jail(const JailPlan& plan, std::span<const int> descriptors,
                              OnFitted on_fitted) {
  if (pid_ == 0) return refuse(reason::kStartFailed, "mayfly-runner is being started again");
  const std::vector<std::byte> encoded = TRY(encode_plan(plan));
  const std::string body(reinterpret_cast<const char*>(encoded.data()), encoded.size());
  const SpawnHeader header{.kind = SpawnKind::FitJail,
                           .plan_bytes = static_cast<std::uint32_t>(encoded.size()),
                           .id = next_id_};
  if (Status sent = send_spawn(control_.get(), header, body, descriptors); !sent) {
    return std::unexpected(std::move(sent).error().in("ask mayfly-runner to fit a jail"));
  }
  fitting_.emplace(next_id_++, std::move(on_fitted));
  return {};
}

void BlankProcess::handle_messages() {
  // Until there is nothing more: what a dying blank sent is still heard.
  while (control_) {
    auto message = receive_spawn(control_.get());
    if (message && !*message) return;
    if (!message) {
      control_watch_.reset();  // its exit is on the way, and is handled there
      return;
    }
    handle(std::move(**message));
  }
}

void BlankProcess::handle(SpawnMessage message) {
  const std::uint64_t id = message.header.id;
  switch (message.header.kind) {
    case SpawnKind::Ready:
      ready_ = true;
      back_off_ = kFirstBackOff;
      runtime_version_ = std::move(message.body);
      say_ready({});
      return;
    case SpawnKind::StartFailed:
      complaint_ = std::move(message.body);
      return;
    case SpawnKind::JailFailed:
      finish_fitting(id, refuse(reason::kStartFailed, message.body));
      finish_start(id, refuse(reason::kStartFailed, std::move(message.body)));
      return;
    case SpawnKind::JailFitted:
      finish_fitting(id, {});
      return;
    case SpawnKind::JailStarted:
      finish_start(id, init_of(std::move(message)));
      return;
    default:
      return;
  }
}

void BlankProcess::finish_start(std::uint64_t id, Result<JailInit> init) {
  const auto found = starting_.find(id);
  if (found == starting_.end()) return;
  OnInit on_init = std::move(found->second);
  starting_.erase(found);
  on_init(std::move(init));
}

void BlankProcess::finish_fitting(std::uint64_t id, const Status& fitted) {
  const auto found = fitting_.find(id);
  if (found == fitting_.end()) return;
  OnFitted on_fitted = std::move(found->second);
  fitting_.erase(found);
  on_fitted(fitted);
}

void BlankProcess::handle_exit() {
  if (control_watch_) handle_messages();
  read_log();
  lines_.finish();
  const auto exit = reap(pidfd_);
  if (!exit) return;
  exit_watch_.reset();
  control_watch_.reset();
  log_watch_.reset();
  control_.reset();
  log_.reset();
  pidfd_.reset();
  pid_ = 0;
  if (complaint_.empty()) {
    complaint_ = fmt::format("{} ended by itself (exit code {}, signal {})", runner_.native(),
                             exit->code, exit->signal);
  }
  LOG(error, "runner ended", {"error", complaint_}, {"again_in_ms", back_off_.count() / 1'000'000});
  restart_.arm_in(back_off_);
  back_off_ = std::min(back_off_ * 2, kLongestBackOff);
  for (auto& [id, on_init] : std::exchange(starting_, {})) {
    on_init(refuse(reason::kStartFailed, complaint_));
  }
  for (auto& [id, on_fitted] : std::exchange(fitting_, {})) {
    on_fitted(refuse(reason::kStartFailed, complaint_));
  }
  if (!ready_) say_ready(fail(Code::FailedPrecondition, complaint_));
  ready_ = false;
}

void BlankProcess::say_ready(Status status) {
  if (auto callback = std::exchange(on_ready_, {})) callback(std::move(status));
}

void BlankProcess::read_log() {
  std::array<char, 4096> bytes;
  const ssize_t got = ::read(log_.get(), bytes.data(), bytes.size());
  if (got > 0) lines_.append({bytes.data(), static_cast<std::size_t>(got)});
  if (got == 0) log_watch_.reset();
}

}  // namespace mayfly
