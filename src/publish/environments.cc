#include "publish/environments.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "async/event.h"
#include "base/log.h"
#include "base/remove_tree.h"
#include "base/tcp.h"
#include "core/project.h"
#include "core/reason.h"
#include "publish/job_outcome.h"
#include "publish/taken_file.h"

namespace mayfly {
namespace {

constexpr auto kConnectPatience = std::chrono::seconds(15);  // for all addresses of a host
constexpr std::size_t kMaxResolved = 1 << 20;
constexpr std::size_t kRoomBesideLock = 2 * 1024;  // the index may be another one later

// For somebody who waits as he likes: it blocks. Blocking: for pools.
Result<Fd> connect_for_job(const ConnectRequest& to) {
  auto connection = connect_tcp(to.host, to.port, kConnectPatience);
  if (!connection) return std::unexpected(std::move(connection).error().in(to.host));
  if (::fcntl(connection->get(), F_SETFL, 0) != 0) return fail_errno("fcntl");
  return connection;
}

std::vector<SourceFile> sources_of(const std::vector<SourceFile>& files) {
  std::vector<ArtifactFile> listed;
  for (const SourceFile& source : files) listed.push_back(source.file);
  std::vector<SourceFile> wanted;
  for (const ArtifactFile& file : requirement_files(listed)) {
    wanted.push_back(*std::ranges::find(files, file.path,
                                        [](const SourceFile& source) { return source.file.path; }));
  }
  std::ranges::sort(wanted, {}, [](const SourceFile& source) { return source.file.path; });
  return wanted;
}

Result<Resolved> read_resolved(const Path& work) {
  const auto file = open_file(work / "resolved.json", O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file) return refuse(reason::kPublishFailed, "installing packages left no result");
  return parse_resolved(TRY(read_all_fd(file->get(), kMaxResolved)));
}

// What one job leaves for the next.
constexpr TreeLimits kParcel{.depth = 8, .entries = 10'000, .bytes = std::uint64_t{4} << 30};

Status take_over(const Path& left, const Path& target, const TreeLimits& limits) {
  Fd folder = TRY(open_file(left, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  TRY(take_tree(std::move(folder), limits, [](const TakenFile&) -> Status { return {}; }));
  TRY(remove_tree(target));
  TRY(make_folder(target.parent_path()));
  if (::rename(left.c_str(), target.c_str()) != 0) return fail_errno("move what a job left");
  return {};
}

// What a step left becomes part of what the next one sees; and that gets an empty folder of its
// own.
Status pass_on(const SourceFolder& folder, ResolveStep step, int round) {
  switch (step) {
    case ResolveStep::Install:
      TRY(take_over(folder.work() / "fetched", folder.source() / "fetched", kParcel));
      break;
    case ResolveStep::Build:
      TRY(take_over(folder.work() / "built", folder.source() / "built" / std::to_string(round),
                    kParcel));
      break;
    case ResolveStep::Debian:
      TRY(take_over(folder.work() / "debian", folder.source() / "debian", TreeLimits{}));
      break;
  }
  TRY(remove_tree(folder.work()));
  return make_folder(folder.work());
}

// Debian's packages lie in usr/ of the environment.
Status add_debian(const SourceFolder& folder) {
  const Path unpacked = folder.source() / "debian" / "usr";
  if (::access(unpacked.c_str(), F_OK) != 0) return {};
  const Path environment = folder.work() / "environment";
  if (::rename(unpacked.c_str(), (environment / "usr").c_str()) != 0)
    return fail_errno("add the packages of Debian");
  return {};
}

JobTools tools_of(ResolveStep step) {
  switch (step) {
    case ResolveStep::Install:
      return JobTools::Install;
    case ResolveStep::Build:
      return JobTools::Build;
    case ResolveStep::Debian:
      return JobTools::Debian;
  }
  return JobTools::None;
}

// Whom a step may be connected with.
Status check_host(const PackageIndex& index, ResolveStep step, const ConnectRequest& request) {
  std::string asked = fmt::format("{}:{}", request.host, request.port);
  std::ranges::transform(asked, asked.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto is_among = [&asked](const std::vector<std::string>& hosts) {
    return std::ranges::find(hosts, asked) != hosts.end();
  };
  switch (step) {
    case ResolveStep::Install:
      if (is_among(index.hosts)) return {};
      return fail(Code::PermissionDenied,
                  fmt::format("{} is no host of the package index; the operator allows it with "
                              "python.index_hosts",
                              asked));
    case ResolveStep::Debian:
      if (is_among(index.debian_hosts)) return {};
      return fail(Code::PermissionDenied,
                  fmt::format("{} is none of the mirrors that apt is configured with", asked));
    case ResolveStep::Build:
      break;
  }
  return fail(Code::PermissionDenied, "what is built has no connections");
}

// Who may follow whom.
bool may_follow(ResolveStep step, ResolveStep next, bool build) {
  if (step == ResolveStep::Install) return next == ResolveStep::Build && build;
  return next == ResolveStep::Install;
}

ResolveJob job_of(const Environments::Wanted& wanted, const PackageIndex& index, ResolveStep step) {
  return {.step = step,
          .index_url = index.url,
          .lock = wanted.lock,
          .build = wanted.build,
          .debian = wanted.debian};
}

// Installing by the lock has to be possible, too.
Status check_length(ResolveJob job, std::string_view lock) {
  if (!job.lock.empty()) return {};  // it had room
  job.lock = lock;
  if (to_json(job).size() + kRoomBesideLock <= kMaxJobRequest) return {};
  return refuse(reason::kInvalidModel,
                fmt::format("packages cannot be installed: they are too many: their lock has {} "
                            "bytes, and at most about {} can be kept",
                            lock.size(), kMaxJobRequest - kRoomBesideLock));
}

}  // namespace

// Of one job, at a time: pip asks for few, and each may hold a thread of the pool while it waits.
constexpr int kMaxConnecting = 4;
constexpr int kMaxRounds = 32;
// Hundreds of packages of Debian, each with connections of its own.
constexpr std::size_t kMostMessages = 20'000;

struct Environments::Installing {
  Installing(Wanted what, SourceFolder where, Progress tell, TimePoint until)
      : wanted(std::move(what)),
        folder(std::move(where)),
        progress(std::move(tell)),
        deadline(until) {}
  const Wanted wanted;
  const SourceFolder folder;
  Progress progress;
  const TimePoint deadline;  // of all jobs together
  std::unique_ptr<Job> job;  // null: it has ended
  ResolveStep step = ResolveStep::Install;
  int steps = 0;  // that have begun
  std::string last;
  int connecting = 0;
};

Environments::Environments(Parts parts, Folders folders, PackageIndex index)
    : parts_(parts),
      folders_(std::move(folders)),
      index_(std::move(index)),
      store_(folders_.environments) {}

Path Environments::folder(const Environment& environment) const {
  return environment.digest.empty() ? Path() : store_.folder(environment.digest);
}

Task<Result<Environment>> Environments::provide(Wanted wanted, Progress progress) {
  std::vector<SourceFile> sources = sources_of(wanted.files);
  if (sources.empty() && wanted.debian.empty()) co_return Environment{};
  std::vector<ArtifactFile> files;
  for (const SourceFile& source : sources) files.push_back(source.file);
  std::string request = environment_request(project_of(wanted.label), files);
  if (wanted.build) request = sha256_hex(fmt::format("{} build", request));
  for (const std::string& package : wanted.debian)
    request = sha256_hex(fmt::format("{} {}", request, package));
  if (!wanted.lock.empty()) request = sha256_hex(fmt::format("{}{}", request, wanted.lock));
  CO_TRY(std::optional<Environment> found,
         co_await parts_.pool.run([this, request] { return store_.find(request); }));
  // Installed again, it may have led to other files once: that is no answer.
  if (found && (wanted.digest.empty() || found->digest == wanted.digest))
    co_return *std::move(found);
  co_return co_await install(std::move(wanted), std::move(sources), std::move(request),
                             std::move(progress));
}

Task<Result<Environment>> Environments::install(Wanted wanted, std::vector<SourceFile> sources,
                                                std::string request, Progress progress) {
  CO_TRY(SourceFolder folder, co_await parts_.pool.run([this, sources] {
    return SourceFolder::create(folders_.tmp, sources);
  }));
  const TimePoint deadline = parts_.loop.clock().now() + wanted.timeout;
  const auto installing = std::make_shared<Installing>(std::move(wanted), std::move(folder),
                                                       std::move(progress), deadline);
  const Wanted& asked = installing->wanted;
  ResolveStep step = asked.debian.empty() ? ResolveStep::Install : ResolveStep::Debian;
  std::string lock;
  for (int round = 0;; ++round) {
    CO_TRY(Resolved resolved, co_await run_step(installing, step));
    // What packages' code could have written ends nothing.
    if (!resolved.next && step == ResolveStep::Install) {
      lock = std::move(resolved.lock);
      break;
    }
    if (!resolved.next) {
      co_return refuse(reason::kInvalidModel,
                       "packages cannot be installed: what builds them ended before they were");
    }
    if (round == kMaxRounds || !may_follow(step, *resolved.next, asked.build)) {
      co_return refuse(reason::kInvalidModel,
                       fmt::format("packages cannot be installed: after {} steps there is still "
                                   "something to build",
                                   round + 1));
    }
    CO_TRY_STATUS(
        co_await parts_.pool.run([&] { return pass_on(installing->folder, step, round); }));
    step = *resolved.next;
  }
  installing->progress = {};
  if (lock.empty()) co_return Environment{};
  CO_TRY_STATUS(check_length(job_of(asked, index_, ResolveStep::Install), lock));
  CO_TRY(Environment made, co_await parts_.pool.run([&]() -> Result<Environment> {
    TRY(add_debian(installing->folder));
    return store_.install({project_of(asked.label), request},
                          installing->folder.work() / "environment", std::move(lock));
  }));
  LOG(info, "packages installed", {"function", asked.label}, {"environment", made.digest});
  if (asked.cancel.cancelled()) co_return fail(Code::Cancelled, "publishing was interrupted");
  co_return made;
}

JobSpec Environments::spec_of(const Installing& installing, ResolveStep step) const {
  const Wanted& wanted = installing.wanted;
  const Duration left = installing.deadline - parts_.loop.clock().now();
  return {.label = wanted.label,
          .runtime = RuntimeKind::Python,
          .source = installing.folder.source(),
          .work = installing.folder.work(),
          .request = to_json(job_of(wanted, index_, step)),
          .max_messages = kMostMessages,
          .memory = wanted.memory,
          .timeout = std::max<Duration>(left, std::chrono::milliseconds(1)),
          .tools = tools_of(step)};
}

Task<Result<Resolved>> Environments::run_step(std::shared_ptr<Installing> installing,
                                              ResolveStep step) {
  const Wanted& wanted = installing->wanted;
  installing->step = step;
  ++installing->steps;
  Future<Result<JobEnd>> ended(parts_.loop);
  JobEvents events{
      .on_progress = [this, installing](std::string_view text) { answer(installing, text); },
      .on_end = [promise =
                     ended.promise()](Result<JobEnd> end) mutable { promise.set(std::move(end)); }};
  JobSpec spec = spec_of(*installing, step);
  CO_TRY(installing->job, parts_.jobs.run_job(std::move(spec), std::move(events)));
  CancelCallback cancelled(wanted.cancel, [&installing] {
    if (installing->job) installing->job->kill();
  });
  Result<JobEnd> end = co_await ended;
  installing->job.reset();
  if (!end) co_return std::unexpected(std::move(end).error());
  if (wanted.cancel.cancelled()) co_return fail(Code::Cancelled, "publishing was interrupted");
  VersionOptions limits;
  limits.publish_memory = wanted.memory;
  limits.publish_timeout = wanted.timeout;
  if (auto failure = failure_of(*end, installing->last, limits))
    co_return std::unexpected(*std::move(failure));
  co_return co_await parts_.pool.run([&] { return read_resolved(installing->folder.work()); });
}

void Environments::answer(const std::shared_ptr<Installing>& installing, std::string_view message) {
  if (const auto request = parse_connect_request(message)) {
    parts_.loop.spawn(connect(installing, *request));
    return;
  }
  const auto step = parse_progress(message);
  if (!step) return;
  installing->last = step->detail;
  if (installing->progress) installing->progress(step->step, step->detail);
}

Task<void> Environments::connect(std::shared_ptr<Installing> installing, ConnectRequest request) {
  const int asked_in = installing->steps;
  Result<Fd> connection = fail(Code::PermissionDenied, "");
  const Status allowed = check_host(index_, installing->step, request);
  if (!allowed) {
    connection = std::unexpected(allowed.error());
  } else if (installing->connecting == kMaxConnecting) {
    connection = fail(Code::ResourceExhausted, "too many connections at once");
  } else {
    ++installing->connecting;
    connection = co_await parts_.pool.run([request] { return connect_for_job(request); });
    --installing->connecting;
  }
  // Who asked may have ended, and another job follow it.
  if (installing->job == nullptr || installing->steps != asked_in) co_return;
  if (connection) {
    installing->job->send("connected", *std::move(connection));
  } else {
    installing->job->send(connection.error().message, Fd());
  }
}

}  // namespace mayfly
