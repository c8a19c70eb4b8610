#include "runner/template.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "runner/instance.h"
#include "runner/onnx_session.h"
#include "runner/python_function.h"
#include "runner/request_server.h"
#include "runner/warmup.h"
#include "sandbox/channel.h"
#include "sandbox/jail.h"

namespace mayfly {
namespace {

constexpr const char* kArtifact = "/artifact";

// How long a template waits for the request that it was built for before it warms what it loaded.
// That request is served by a fork of it as it was loaded: a run of its own is all that it waits
// for, and not warm-up runs before that.
constexpr int kFirstForkMs = 20;

bool is_asked(int wait_ms) {
  pollfd control{.fd = kControlFd, .events = POLLIN, .revents = 0};
  return ::poll(&control, 1, wait_ms) != 0;
}

class TemplateProcess {
 public:
  explicit TemplateProcess(const TemplateTask& task) : task_(task) {}

  // Before there is an artifact: the interpreter and its modules, then the wait for a version.
  Status await_version() {
    TRY(prepare_python(task_.environment, task_.threads));
    TRY(send_spawn(kControlFd, {.kind = SpawnKind::Ready}));
    auto message = TRY(receive_spawn(kControlFd));
    if (!message || message->header.kind != SpawnKind::Give)
      return fail(Code::Unavailable, "no version came");
    return {};
  }

  Status prepare() {
    if (task_.kind == RuntimeKind::Onnx) TRY(populate_weights(kArtifact));
    if (task_.session == SessionTime::AfterFork) return {};
    TRY(load());
    // A model whose inputs cannot be made up is not warmed. Nor is code that has no example: what
    // it does with made-up inputs nobody knows.
    auto region = task_.kind == RuntimeKind::Python
                      ? read_warmup_region(kArtifact)
                      : make_warmup_region(kArtifact, backend_->signature());
    if (region) warm_up_.emplace(*std::move(region));
    return {};
  }

  // Ends by an error (the server hung up), or with an instance's exit code.
  Result<int> serve() {
    int patience_ms = kFirstForkMs;
    while (true) {
      if (warm_up_ && !is_asked(std::exchange(patience_ms, 0))) {
        run_warm_up();
        continue;
      }
      auto message = TRY(receive_spawn(kControlFd));
      if (!message || message->header.kind != SpawnKind::Fork || message->descriptors.empty()) {
        return fail(Code::DataLoss, "not a request to fork");
      }
      if (backend_) backend_->before_fork();
      const auto instance = clone_instance();
      if (instance && instance->pid == 0) return run_instance(std::move(*message));
      if (backend_) backend_->after_fork_in_parent();
      TRY(report(message->header.id, instance));
    }
  }

 private:
  Status load() {
    if (task_.kind == RuntimeKind::Python) {
      backend_ = TRY(load_python_function(kArtifact, task_.threads));
    } else {
      backend_ = std::make_unique<OnnxSession>(
          TRY(OnnxSession::load(task_.runtime, kArtifact, task_.threads)));
    }
    return {};
  }

  // One run, so that a fork waits for no more.
  void run_warm_up() {
    warm_up(*backend_, warm_up_->bytes());
    if (++warm_runs_ == kWarmRuns) warm_up_.reset();
  }

  static Status report(std::uint64_t id, const Result<JailedProcess>& instance) {
    if (!instance) {
      return send_spawn(kControlFd, {.kind = SpawnKind::ForkFailed, .id = id},
                        instance.error().message);
    }
    const int pidfd = instance->pidfd.get();
    return send_spawn(kControlFd, {.kind = SpawnKind::Forked, .id = id, .pid = instance->pid}, {},
                      std::span(&pidfd, 1));
  }

  int run_instance(SpawnMessage message) {
    if (const Status tight = tighten(message); !tight) {
      // No reply names the cause: the log does, and the server sees the exit.
      std::ignore = write_all(kLogFd, tight.error().message + "\n");
      return 1;
    }
    reseed();
    warm_up_.reset();
    if (!backend_) {
      if (const Status loaded = load(); !loaded) {
        std::ignore = write_all(kLogFd, loaded.error().message + "\n");
        return 1;
      }
    }
    backend_->after_fork_in_child();
    return serve_doorbell(doorbell_, *backend_);
  }

  Status tighten(SpawnMessage& message) {
    doorbell_ = message.descriptors.front().release();
    std::array<int, kMaxSpawnDescriptors> groups{};
    std::size_t count = 0;
    for (Fd& descriptor : message.descriptors) {
      if (descriptor) groups.at(count++) = descriptor.release();  // closed by the tightening
    }
    const std::array keep = {kLogFd, kLogFd + 1, doorbell_};
    return tighten_instance(
        {.profile = instance_profile(), .cgroups = std::span(groups).first(count), .keep = keep},
        task_.filters);
  }

  Profile instance_profile() const {
    if (task_.kind == RuntimeKind::Python) return Profile::PythonInstance;
    return task_.session != SessionTime::AfterFork ? Profile::Instance : Profile::ThreadedInstance;
  }

  const TemplateTask& task_;
  std::unique_ptr<Backend> backend_;
  std::optional<Region> warm_up_;  // until the session is warm
  int warm_runs_ = 0;
  int doorbell_ = -1;
};

}  // namespace

int run_template(const TemplateTask& task) {
  // Never destroyed: a session that a fork inherited may not be torn down in it, and every process
  // of a jail leaves by _exit.
  auto* self = new TemplateProcess(task);
  Status ready = task.session == SessionTime::WhenGiven ? self->await_version() : Status();
  if (ready) ready = self->prepare();
  if (!ready) {
    const bool unfit = ready.error().code == Code::Aborted;
    std::ignore =
        send_spawn(kControlFd, {.kind = unfit ? SpawnKind::Unfit : SpawnKind::StartFailed},
                   ready.error().message);
    return 1;
  }
  if (!send_spawn(kControlFd, {.kind = SpawnKind::Ready})) return 1;
  const Result<int> ended = self->serve();
  return ended ? *ended : ended.error().code == Code::Unavailable ? 0 : 1;
}

}  // namespace mayfly
