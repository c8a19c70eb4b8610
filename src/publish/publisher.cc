#include "publish/publisher.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "async/event.h"
#include "base/log.h"
#include "core/project.h"
#include "core/reason.h"
#include "publish/job_outcome.h"
#include "runner/report/publish_job.h"

namespace mayfly {
namespace {

std::vector<ArtifactFile> files_of(const std::vector<SourceFile>& sources) {
  std::vector<ArtifactFile> files;
  for (const SourceFile& source : sources) files.push_back(source.file);
  std::ranges::sort(files, {}, &ArtifactFile::path);
  return files;
}

// What a generator has no use for is refused, not ignored.
Status check_streamable(const VersionOptions& options) {
  const char* wanted = nullptr;
  if (options.batching.mode != BatchMode::Off) wanted = "batching";
  if (options.cache) wanted = "cache";
  if (wanted == nullptr) return {};
  return refuse(
      reason::kInvalidManifest,
      fmt::format("predict is a generator, whose replies are streams: {} does not go with "
                  "it; take it out of mayfly.toml",
                  wanted));
}

Result<Manifest> manifest_of(const PublishRequest& request, const Report& report) {
  if (request.options.batching.mode != BatchMode::Off) TRY(check_batchable(report.signature));
  if (report.streams) TRY(check_streamable(request.options));
  return Manifest{.options = request.options,
                  .files = files_of(request.files),
                  .signature = report.signature,
                  .session_after_fork = report.session_after_fork || request.options.threads > 1,
                  .documents = report.documents,
                  .streams = report.streams,
                  .environment = request.environment};
}

// The job's last words before it ended, kept for the reason when it ends badly.
struct Steps {
  Publisher::Progress progress;
  std::string last;

  void tell(std::string_view message) {
    const auto step = parse_progress(message);
    if (!step) return;
    last = step->detail.empty() ? step->step : fmt::format("{}: {}", step->step, step->detail);
    if (progress) progress(step->step, step->detail);
  }
};

PrivateKey draw_key() {
  SystemRng rng;
  return *PrivateKey::create(draw_private_key(rng));
}

}  // namespace

Publisher::Publisher(Loop& loop, Pool& pool, JobRunner& jobs, Folders folders, CompileTarget target,
                     PythonSupplies python)
    : loop_(loop),
      pool_(pool),
      jobs_(jobs),
      folders_(std::move(folders)),
      target_(std::move(target)),
      store_(folders_.compiled, folders_.tmp, folders_.key ? *folders_.key : draw_key()),
      environments_({loop, pool, jobs}, {folders_.environments, folders_.tmp},
                    std::move(python.index)),
      read_secrets_(std::move(python.read_secrets)) {}

Task<Result<Secrets>> Publisher::secrets_for(std::string label, VersionOptions options,
                                             Pool& pool) {
  const std::vector<std::string>& names = options.function.secrets;
  if (names.empty()) co_return Secrets();
  if (!read_secrets_) {
    co_return refuse(reason::kSecretUnavailable,
                     fmt::format("the secret {}: this node keeps none", names.front()));
  }
  co_return co_await pool.run([&] { return read_secrets_(project_of(label), names); });
}

Task<Result<Published>> Publisher::publish(PublishRequest request, Progress progress) {
  // Also where nothing is to be run: a version that could not start is not published.
  CO_TRY(Secrets secrets, co_await secrets_for(request.label, request.options, pool_));
  const bool has_none = request.settled && request.environment.digest.empty();
  if (is_python(request.options) && !has_none) {
    CO_TRY(request.environment, co_await provide_environment(request, progress));
  }
  std::string key = compiled_key(project_of(request.label), files_of(request.files),
                                 request.options, target_, request.environment.digest);
  CO_TRY(std::optional<Compiled> found,
         co_await pool_.run([this, key] { return store_.find(key); }));
  if (found) {
    CO_TRY(Manifest manifest, manifest_of(request, found->report));
    co_return Published{.manifest = std::move(manifest),
                        .report = std::move(found->report),
                        .compiled = store_.folder(key),
                        .reused = true};
  }
  Trial trial{.request = std::move(request), .key = std::move(key), .secrets = std::move(secrets)};
  co_return co_await run_job(std::move(trial), std::move(progress));
}

Task<Result<Environment>> Publisher::provide_environment(const PublishRequest& request,
                                                         Progress progress) {
  const Environment& known = request.environment;
  Environments::Wanted wanted{.label = request.label,
                              .files = request.files,
                              .memory = request.options.publish_memory,
                              .timeout = request.options.publish_timeout,
                              .lock = known.lock,
                              .build = request.options.function.build,
                              .debian = request.options.function.debian,
                              .digest = known.digest,
                              .cancel = request.cancel};
  CO_TRY(Environment made, co_await environments_.provide(std::move(wanted), std::move(progress)));
  if (!known.digest.empty() && made.digest != known.digest) {
    co_return refuse(reason::kPublishFailed,
                     "installed again, its packages have other files than when it was deployed");
  }
  co_return made;
}

JobSpec Publisher::spec_of(const PublishRequest& request, const SourceFolder& folder) const {
  const bool python = is_python(request.options);
  const PublishJob job{.model = request.options.model,
                       .example = request.options.example,
                       .threads = request.options.threads,
                       .timeout = request.options.timeout,
                       .instance_memory = request.options.memory,
                       .publish_memory = request.options.publish_memory,
                       .batch_rows = usual_rows(request.options.batching),
                       .function = python ? std::optional(request.options.function) : std::nullopt};
  return {.label = request.label,
          .runtime = python ? RuntimeKind::Python : RuntimeKind::Onnx,
          .source = folder.source(),
          .work = folder.work(),
          .request = to_json(job),
          .memory = request.options.publish_memory,
          .threads = request.options.threads,
          .timeout = request.options.publish_timeout,
          .environment = environments_.folder(request.environment)};
}

Task<Result<Published>> Publisher::run_job(Trial trial, Progress progress) {
  const PublishRequest& request = trial.request;
  const std::string& key = trial.key;
  CO_TRY(SourceFolder folder, co_await pool_.run([this, files = request.files] {
    return SourceFolder::create(folders_.tmp, files);
  }));
  Steps steps{.progress = std::move(progress), .last = {}};
  Future<Result<JobEnd>> ended(loop_);
  JobEvents events{.on_progress = [&steps](std::string_view message) { steps.tell(message); },
                   .on_end = [promise = ended.promise()](
                                 Result<JobEnd> end) mutable { promise.set(std::move(end)); }};
  JobSpec spec = spec_of(request, folder);
  spec.secrets = std::move(trial.secrets);
  CO_TRY(std::unique_ptr<Job> job, jobs_.run_job(std::move(spec), std::move(events)));
  CancelCallback cancelled(request.cancel, [&job] { job->kill(); });
  CO_TRY(JobEnd end, co_await ended);
  if (request.cancel.cancelled()) co_return fail(Code::Cancelled, "publishing was interrupted");
  if (auto failure = failure_of(end, steps.last, request.options)) {
    co_return std::unexpected(*std::move(failure));
  }
  CO_TRY(Compiled compiled, co_await pool_.run([&]() -> Result<Compiled> {
    Report report = TRY(read_report(folder.work()));
    CompiledStore::Parts parts{
        .target = target_, .report = std::move(report), .out = folder.work() / "out"};
    if (is_python(request.options)) parts.sources = request.files;
    return store_.install(key, std::move(parts));
  }));
  CO_TRY(Manifest manifest, manifest_of(request, compiled.report));
  co_return Published{.manifest = std::move(manifest),
                      .report = std::move(compiled.report),
                      .compiled = store_.folder(key),
                      .reused = false,
                      .peak_memory = end.peak_memory};
}

Task<Result<Path>> Publisher::compiled_for(std::string_view label, Manifest manifest, Pool& pool) {
  const Environment& environment = manifest.environment;
  const std::string key = compiled_key(project_of(label), manifest.files, manifest.options, target_,
                                       environment.digest);
  CO_TRY(const bool found, co_await pool.run([&]() -> Result<bool> {
    if (!environment.digest.empty() && !environments_.has(environment)) return false;
    return store_.has(key);
  }));
  if (found) co_return store_.folder(key);
  co_return fail(
      Code::NotFound,
      fmt::format("no artifact is compiled for ONNX Runtime {} on this CPU", target_.runtime));
}

Task<Result<Path>> Publisher::rebuilt_for(std::string label, Manifest manifest,
                                          std::vector<SourceFile> files, CancelToken cancel) {
  PublishRequest request{.label = std::move(label),
                         .files = std::move(files),
                         .options = manifest.options,
                         .cancel = cancel,
                         .environment = manifest.environment,
                         .settled = true};
  if (files_of(request.files) != manifest.files) {
    co_return fail(Code::DataLoss, "the files to compile are not those of the version");
  }
  CO_TRY(Published published, co_await publish(std::move(request), {}));
  if (published.manifest.signature != manifest.signature) {
    co_return refuse(reason::kPublishFailed,
                     fmt::format("compiled with ONNX Runtime {}, the model has another signature "
                                 "than when it was deployed",
                                 target_.runtime));
  }
  if (!published.reused) {
    LOG(info, "artifact compiled again", {"runtime", target_.runtime},
        {"folder", published.compiled.filename().native()});
  }
  co_return published.compiled;
}

}  // namespace mayfly
