#include "runner/blank.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runner/dummy_model.h"
#include "runner/onnx_session.h"
#include "runner/request_server.h"
#include "runner/template.h"
#include "runner/warmup.h"
#include "sandbox/jail.h"
#include "sandbox/spawn_protocol.h"

namespace mayfly {
namespace {

// What a StartJail message asks for.
struct JailTask {
  JailPlan plan;
  SpawnHeader header;
  std::string request;
  Fd control;
  Fd status;
  Fd log;
  Fd secrets;
  std::vector<Fd> groups;
};

Result<JailTask> read_task(SpawnMessage message) {
  const auto malformed = [] { return fail(Code::DataLoss, "not a request for a jail"); };
  if (message.header.kind != SpawnKind::StartJail || message.descriptors.size() < 3)
    return malformed();
  const std::string_view body = message.body;
  const std::string_view plan = body.substr(0, message.header.plan_bytes);
  JailTask task{.plan = TRY(decode_plan(std::as_bytes(std::span(plan)))),
                .header = message.header,
                .request = std::string(body.substr(plan.size())),
                .control = std::move(message.descriptors[0]),
                .status = std::move(message.descriptors[1]),
                .log = std::move(message.descriptors[2]),
                .secrets = {},
                .groups = {}};
  auto group = message.descriptors.begin() + 3;
  if (task.plan.has_secrets) {
    if (group == message.descriptors.end()) return malformed();
    task.secrets = std::move(*group++);
    task.plan.secrets = task.secrets.get();
  }
  for (; group != message.descriptors.end(); ++group) {
    task.plan.cgroups.push_back(group->get());
    task.groups.push_back(std::move(*group));
  }
  return task;
}

Status move_descriptor(Fd& from, int to) {
  if (::dup2(from.get(), to) < 0) return fail_errno("dup2");
  return {};
}

// Leaves the jail's three descriptors and those that entering it still needs.
Status arrange_descriptors(JailTask& task, const JailBirth& birth) {
  TRY(move_descriptor(task.control, kControlFd));
  TRY(move_descriptor(task.log, kLogFd));
  TRY(move_descriptor(task.log, kLogFd + 1));
  task.control.reset();
  task.log.reset();
  std::vector<int> keep = {kControlFd, kLogFd, kLogFd + 1, task.status.get(), birth.server.get()};
  if (task.secrets) keep.push_back(task.secrets.get());
  keep.insert(keep.end(), task.plan.cgroups.begin(), task.plan.cgroups.end());
  std::ranges::sort(keep);
  return close_all_but(keep);
}

class Blank {
 public:
  Blank(const BlankTask& task, SeccompFilters filters)
      : task_(task), filters_(std::move(filters)) {}

  // Ends by an error, or with the exit code of a process that came of it.
  Result<int> serve() {
    while (true) {
      auto message = TRY(receive_spawn(kControlFd));
      if (!message) return fail(Code::Internal, "the control socket does not block");
      const std::uint64_t id = message->header.id;
      if (message->header.kind == SpawnKind::FitJail) {
        TRY(fit(*std::move(message)));
        continue;
      }
      auto task = read_task(*std::move(message));
      if (!task) return std::unexpected(std::move(task).error());
      const auto init = clone_jail(
          task->plan, [&](JailBirth birth) { return run_init(*task, std::move(birth)); });
      // Told as jail init itself would have; the server reaps it as any other.
      if (init && init->stillborn) {
        std::ignore = send_spawn(task->control.get(), {.kind = SpawnKind::StartFailed},
                                 init->stillborn->message);
      }
      TRY(report(id, init));
    }
  }

 private:
  static Status report(std::uint64_t id, const Result<JailedProcess>& init) {
    if (!init)
      return send_spawn(kControlFd, {.kind = SpawnKind::JailFailed, .id = id},
                        init.error().message);
    std::vector<int> descriptors = {init->pidfd.get()};
    for (const Fd& space : init->spaces) descriptors.push_back(space.get());
    return send_spawn(kControlFd, {.kind = SpawnKind::JailStarted, .id = id, .pid = init->pid}, {},
                      descriptors);
  }

  static Status fit(SpawnMessage message) {
    JailPlan plan = TRY(decode_plan(std::as_bytes(std::span(message.body))));
    const std::size_t wanted = plan.has_secrets ? 3 : 2;
    if (message.descriptors.size() != wanted)
      return fail(Code::DataLoss, "not a request to fit a jail");
    if (plan.has_secrets) plan.secrets = message.descriptors.back().get();
    const Status fitted = fit_jail(plan, std::span(message.descriptors).first(2));
    const auto kind = fitted ? SpawnKind::JailFitted : SpawnKind::JailFailed;
    return send_spawn(kControlFd, {.kind = kind, .id = message.header.id},
                      fitted ? std::string_view() : fitted.error().message);
  }

  // Jail init: enters the jail, forks the worker, reaps.
  int run_init(JailTask& task, JailBirth birth) {
    Result<pid_t> worker = enter(task, std::move(birth));
    if (!worker) {
      std::ignore =
          send_spawn(kControlFd, {.kind = SpawnKind::StartFailed}, worker.error().message);
      return 1;
    }
    if (*worker == 0) {
      task.status.reset();
      return run_worker(task);
    }
    ::close(kControlFd);
    run_reaper(task.status.get());
    return 0;
  }

  Result<pid_t> enter(JailTask& task, JailBirth birth) {
    TRY(arrange_descriptors(task, birth));
    TRY(enter_jail(task.plan, filters_, std::move(birth)));
    task.groups.clear();
    task.secrets.reset();
    return fork_worker();
  }

  int run_worker(const JailTask& task) {
    const bool python = is_python(task.plan.profile);
    if (is_job(task.plan.profile)) {
      return task_.job == nullptr ? 1 : task_.job(task_.runtime, kControlFd, task.request);
    }
    return task_.serve_template({.runtime = task_.runtime,
                                 .filters = filters_,
                                 .kind = python ? RuntimeKind::Python : RuntimeKind::Onnx,
                                 .session = task.header.session,
                                 .environment = task.request,
                                 .threads = task.header.threads});
  }

  const BlankTask& task_;
  SeccompFilters filters_;
};

Status warm_runtime(const OnnxRuntime& runtime) {
  OnnxSession session =
      TRY(OnnxSession::open(runtime, std::as_bytes(std::span(kDummyModel)), SessionOptions{}));
  const std::vector<std::byte> image = TRY(make_zero_request(session.signature()));
  const Region region = TRY(Region::anonymous(kInstanceRegion));
  std::ranges::copy(image, region.bytes().begin());
  warm_up(session, region.bytes());
  return {};
}

Result<int> serve_jails(const BlankTask& task) {
  TRY(warm_runtime(task.runtime));
  Blank blank(task, TRY(SeccompFilters::compile()));
  TRY(send_spawn(kControlFd, {.kind = SpawnKind::Ready}, task.runtime.version()));
  return blank.serve();
}

}  // namespace

int run_blank(const BlankTask& task) {
  const Result<int> ended = serve_jails(task);
  if (ended) return *ended;
  if (ended.error().code == Code::Unavailable) return 0;  // the server hung up
  std::ignore = send_spawn(kControlFd, {.kind = SpawnKind::StartFailed}, ended.error().message);
  return 1;
}

}  // namespace mayfly
