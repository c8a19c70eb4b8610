#include "publish/environments.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "async/event.h"
#include "base/log.h"
#include "base/tcp.h"
#include "core/project.h"
#include "core/reason.h"
#include "publish/job_outcome.h"

namespace mayfly {
namespace {

constexpr auto kConnectPatience = std::chrono::seconds(15);  // for all addresses of a host
constexpr std::size_t kMaxResolved = 1 << 20;

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

Result<std::string> read_lock(const Path& work) {
  const auto file = open_file(work / "resolved.json", O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file) return refuse(reason::kPublishFailed, "installing packages left no result");
  return parse_resolved(TRY(read_all_fd(file->get(), kMaxResolved)));
}

}  // namespace

// Of one job, at a time: pip asks for few, and each may hold a thread of the pool while it waits.
constexpr int kMaxConnecting = 4;

struct Environments::Installing {
  std::unique_ptr<Job> job;  // null: it has ended
  Progress progress;
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
  if (sources.empty()) co_return Environment{};
  std::vector<ArtifactFile> files;
  for (const SourceFile& source : sources) files.push_back(source.file);
  std::string request = environment_request(project_of(wanted.label), files);
  if (!wanted.lock.empty()) request = sha256_hex(request + wanted.lock);
  CO_TRY(std::optional<Environment> found,
         co_await parts_.pool.run([this, request] { return store_.find(request); }));
  if (found) co_return *std::move(found);
  co_return co_await install(std::move(wanted), std::move(sources), std::move(request),
                             std::move(progress));
}

Task<Result<Environment>> Environments::install(Wanted wanted, std::vector<SourceFile> sources,
                                                std::string request, Progress progress) {
  CO_TRY(SourceFolder folder, co_await parts_.pool.run([this, sources] {
    return SourceFolder::create(folders_.tmp, sources);
  }));
  auto installing = std::make_shared<Installing>();
  installing->progress = std::move(progress);
  Future<Result<JobEnd>> ended(parts_.loop);
  JobEvents events{
      .on_progress = [this, installing](std::string_view text) { answer(installing, text); },
      .on_end = [promise =
                     ended.promise()](Result<JobEnd> end) mutable { promise.set(std::move(end)); }};
  JobSpec spec{.label = wanted.label,
               .runtime = RuntimeKind::Python,
               .source = folder.source(),
               .work = folder.work(),
               .request = to_json(ResolveJob{.index_url = index_.url, .lock = wanted.lock}),
               .memory = wanted.memory,
               .timeout = wanted.timeout,
               .installs = true};
  CO_TRY(installing->job, parts_.jobs.run_job(std::move(spec), std::move(events)));
  CancelCallback cancelled(wanted.cancel, [&installing] {
    if (installing->job) installing->job->kill();
  });
  Result<JobEnd> end = co_await ended;
  installing->job.reset();
  installing->progress = {};
  if (!end) co_return std::unexpected(std::move(end).error());
  if (wanted.cancel.cancelled()) co_return fail(Code::Cancelled, "publishing was interrupted");
  VersionOptions limits;
  limits.publish_memory = wanted.memory;
  limits.publish_timeout = wanted.timeout;
  if (auto failure = failure_of(*end, installing->last, limits))
    co_return std::unexpected(*std::move(failure));
  CO_TRY(Environment made, co_await parts_.pool.run([&]() -> Result<Environment> {
    std::string lock = TRY(read_lock(folder.work()));
    if (lock.empty()) return Environment{};
    return store_.install({project_of(wanted.label), request}, folder.work() / "environment",
                          std::move(lock));
  }));
  if (made.digest.empty()) co_return made;
  LOG(info, "packages installed", {"function", wanted.label}, {"environment", made.digest});
  if (wanted.cancel.cancelled()) co_return fail(Code::Cancelled, "publishing was interrupted");
  co_return made;
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
  Result<Fd> connection = fail(Code::PermissionDenied, "");
  if (installing->connecting == kMaxConnecting) {
    connection = fail(Code::ResourceExhausted, "too many connections at once");
  } else if (allows(request)) {
    ++installing->connecting;
    connection = co_await parts_.pool.run([request] { return connect_for_job(request); });
    --installing->connecting;
  } else {
    connection = fail(Code::PermissionDenied,
                      fmt::format("{}:{} is no host of the package index; the operator allows it "
                                  "with python.index_hosts",
                                  request.host, request.port));
  }
  if (installing->job == nullptr) co_return;
  if (connection) {
    installing->job->send("connected", *std::move(connection));
  } else {
    installing->job->send(connection.error().message, Fd());
  }
}

bool Environments::allows(const ConnectRequest& request) const {
  std::string asked = fmt::format("{}:{}", request.host, request.port);
  std::ranges::transform(asked, asked.begin(), [](unsigned char c) { return std::tolower(c); });
  return std::ranges::find(index_.hosts, asked) != index_.hosts.end();
}

}  // namespace mayfly
