#include "sandbox/testing/jail_harness.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <tuple>

namespace mayfly {
namespace {

constexpr int kProbeDeadlineMs = 60'000;
constexpr char kErrorTag = 'E';   // text: why there is no jail
constexpr char kReportTag = 'R';  // text: the probe's report
constexpr char kPidTag = 'P';     // pid_t of jail init
constexpr char kExitTag = 'X';    // JailExit

// One write each, below PIPE_BUF: messages of several processes do not mix. Without allocation.
void tell(int fd, char tag, std::string_view text) {
  std::array<char, 4096> message{};
  const std::size_t size = std::min(text.size(), message.size() - 3);
  message[0] = tag;
  const auto length = static_cast<std::uint16_t>(size);
  std::memcpy(&message[1], &length, sizeof length);
  std::memcpy(&message[3], text.data(), size);
  std::ignore = ::write(fd, message.data(), size + 3);
}

template <typename T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

void become_ordinary_user() {
  if (::setgroups(0, nullptr) != 0 || ::setresgid(kOrdinaryId, kOrdinaryId, kOrdinaryId) != 0 ||
      ::setresuid(kOrdinaryId, kOrdinaryId, kOrdinaryId) != 0) {
    ::_exit(9);
  }
  // A change of ids makes a process undumpable; one started by an ordinary user is dumpable.
  ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

struct Setting {
  const JailPlan& plan;
  const Probe& probe;
  const JailRunOptions& options;
  const SeccompFilters& filters;
  int out;
  // Between a worker that awaits a version and the blank: "I am in", "it is there".
  const Pipe& entered;
  const Pipe& given;
};

[[noreturn]] void run_probe(const Setting& s) {
  tell(s.out, kReportTag, s.probe());
  ::_exit(0);
}

void await_version(const Setting& s) {
  char byte = 0;
  std::ignore = ::write(s.entered.write_end.get(), "e", 1);
  std::ignore = ::read(s.given.read_end.get(), &byte, 1);
}

// In the blank, whose ends of the pipes the jail's processes have copies of.
void give_version(const Setting& s, const JailedProcess& init) {
  char byte = 0;
  if (::read(s.entered.read_end.get(), &byte, 1) != 1) return;  // it never came that far
  JailPlan version = *s.options.version;
  version.ids = s.plan.ids;
  if (const Status fitted = fit_jail(version, init.spaces); !fitted)
    tell(s.out, kErrorTag, fitted.error().message);
  std::ignore = ::write(s.given.write_end.get(), "g", 1);
}

[[noreturn]] void run_worker(const Setting& s) {
  if (s.options.version != nullptr) await_version(s);
  if (!s.options.instance) run_probe(s);
  const auto instance = clone_instance();
  if (!instance) {
    tell(s.out, kErrorTag, instance.error().message);
    ::_exit(1);
  }
  if (instance->pid != 0) ::_exit(0);
  const InstanceTightening how{.profile = *s.options.instance,
                               .cgroups = s.options.instance_cgroups,
                               .keep = std::span(&s.out, 1)};
  if (const Status tight = tighten_instance(how, s.filters); !tight) {
    tell(s.out, kErrorTag, tight.error().message);
    ::_exit(1);
  }
  run_probe(s);
}

// Exits of pid 2 and of the instance are reported; only a signal matters to the test.
void report_exits(int out) {
  while (true) {
    siginfo_t info{};
    if (::waitid(P_ALL, 0, &info, WEXITED) != 0) {
      if (errno == EINTR) continue;
      return;
    }
    const JailExit ended{.pid = info.si_pid, .code = info.si_code, .status = info.si_status};
    tell(out, kExitTag, bytes_of(ended));
  }
}

int run_init(const Setting& s, JailBirth birth) {
  if (const Status entered = enter_jail(s.plan, s.filters, std::move(birth)); !entered) {
    tell(s.out, kErrorTag, entered.error().message);
    return 1;
  }
  const auto worker = fork_worker();
  if (!worker) {
    tell(s.out, kErrorTag, worker.error().message);
    return 1;
  }
  if (*worker == 0) run_worker(s);
  report_exits(s.out);
  return 0;
}

[[noreturn]] void play_blank(const Setting& s) {
  if (s.options.as == RunAs::OrdinaryUser) become_ordinary_user();
  JailPlan plan = s.plan;
  plan.ids = IdMapping::for_slot(7);
  const Setting own{plan, s.probe, s.options, s.filters, s.out, s.entered, s.given};
  const auto init =
      clone_jail(plan, [&own](JailBirth birth) { return run_init(own, std::move(birth)); });
  if (!init || init->stillborn) {
    tell(s.out, kErrorTag, init ? init->stillborn->message : init.error().message);
    ::_exit(1);
  }
  tell(s.out, kPidTag, bytes_of(init->pid));
  if (s.options.version != nullptr) give_version(own, *init);
  ::_exit(0);
}

struct Gathered {
  JailRun run;
  pid_t init = 0;
  bool reported = false;
};

Gathered decode(std::string_view all);

// Reads to the end of the pipe, or to the deadline: a probe that hangs is killed by the caller.
std::string gather(int fd, bool stop_at_report) {
  std::string all;
  std::array<char, 4096> chunk;
  while (true) {
    pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, kProbeDeadlineMs) <= 0) return all;
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got <= 0) return all;
    all.append(chunk.data(), static_cast<std::size_t>(got));
    if (!stop_at_report) continue;
    if (const Gathered so_far = decode(all); so_far.reported && so_far.init > 0) return all;
  }
}

Gathered decode(std::string_view all) {
  Gathered found;
  while (all.size() >= 3) {
    std::uint16_t length = 0;
    std::memcpy(&length, all.data() + 1, sizeof length);
    const std::string_view text = all.substr(3, length);
    if (all[0] == kErrorTag) found.run.error = text;
    if (all[0] == kReportTag) {
      found.run.report = text;
      found.reported = true;
    }
    if (all[0] == kPidTag) std::memcpy(&found.init, text.data(), sizeof found.init);
    if (all[0] == kExitTag) {
      JailExit ended{};
      std::memcpy(&ended, text.data(), sizeof ended);
      if (ended.code != CLD_EXITED) found.run.signal = ended.status;
    }
    all.remove_prefix(3 + static_cast<std::size_t>(length));
  }
  return found;
}

}  // namespace

JailPlan JailPlanSurgeon::without(JailPlan plan, std::initializer_list<Layer> layers) {
  for (const Layer layer : layers) plan.layers_ = plan.layers_.without(layer);
  return plan;
}

bool running_as_root() { return ::geteuid() == 0; }

JailRun run_in_jail(const JailPlan& plan, const Probe& probe, const JailRunOptions& options) {
  static const Result<SeccompFilters> filters = SeccompFilters::compile();
  if (!filters) return {.error = filters.error().message, .report = {}, .signal = 0};
  auto pipe = make_pipe();
  if (!pipe) return {.error = pipe.error().message, .report = {}, .signal = 0};
  auto entered = make_pipe();
  auto given = make_pipe();
  if (!entered || !given) return {.error = "no pipes", .report = {}, .signal = 0};
  const pid_t blank = ::fork();
  if (blank == 0)
    play_blank({plan, probe, options, *filters, pipe->write_end.get(), *entered, *given});
  pipe->write_end.reset();
  Gathered found = decode(gather(pipe->read_end.get(), options.kill_at_report));
  if (found.init > 0) ::kill(found.init, SIGKILL);
  // The blank, and jail init where there is one, are this process's only children meanwhile.
  while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
  }
  return found.run;
}

}  // namespace mayfly
