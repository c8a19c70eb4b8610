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

Result<Manifest> manifest_of(const PublishRequest& request, const Report& report) {
  if (request.options.batching.mode != BatchMode::Off) TRY(check_batchable(report.signature));
  return Manifest{.options = request.options,
                  .files = files_of(request.files),
                  .signature = report.signature,
                  .session_after_fork = report.session_after_fork || request.options.threads > 1};
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

}  // namespace

Publisher::Publisher(Loop& loop, Pool& pool, JobRunner& jobs, Folders folders, CompileTarget target)
    : loop_(loop),
      pool_(pool),
      jobs_(jobs),
      folders_(std::move(folders)),
      target_(std::move(target)),
      store_(folders_.compiled, folders_.tmp) {}

Task<Result<Published>> Publisher::publish(PublishRequest request, Progress progress) {
  std::string key =
      compiled_key(project_of(request.label), files_of(request.files), request.options, target_);
  CO_TRY(std::optional<Compiled> found,
         co_await pool_.run([this, key] { return store_.find(key); }));
  if (found) {
    CO_TRY(Manifest manifest, manifest_of(request, found->report));
    co_return Published{.manifest = std::move(manifest),
                        .report = std::move(found->report),
                        .compiled = store_.folder(key),
                        .reused = true};
  }
  co_return co_await run_job(std::move(request), std::move(key), std::move(progress));
}

JobSpec Publisher::spec_of(const PublishRequest& request, const SourceFolder& folder) const {
  const PublishJob job{.model = request.options.model,
                       .example = request.options.example,
                       .threads = request.options.threads,
                       .timeout = request.options.timeout,
                       .instance_memory = request.options.memory,
                       .publish_memory = request.options.publish_memory,
                       .batch_rows = usual_rows(request.options.batching)};
  return {.label = request.label,
          .source = folder.source(),
          .work = folder.work(),
          .request = to_json(job),
          .memory = request.options.publish_memory,
          .threads = request.options.threads,
          .timeout = request.options.publish_timeout};
}

Task<Result<Published>> Publisher::run_job(PublishRequest request, std::string key,
                                           Progress progress) {
  CO_TRY(SourceFolder folder, co_await pool_.run([this, files = request.files] {
    return SourceFolder::create(folders_.tmp, files);
  }));
  Steps steps{.progress = std::move(progress), .last = {}};
  Future<Result<JobEnd>> ended(loop_);
  JobEvents events{.on_progress = [&steps](std::string_view message) { steps.tell(message); },
                   .on_end = [promise = ended.promise()](
                                 Result<JobEnd> end) mutable { promise.set(std::move(end)); }};
  JobSpec spec = spec_of(request, folder);
  CO_TRY(std::unique_ptr<Job> job, jobs_.run_job(std::move(spec), std::move(events)));
  CancelCallback cancelled(request.cancel, [&job] { job->kill(); });
  CO_TRY(JobEnd end, co_await ended);
  if (request.cancel.cancelled()) co_return fail(Code::Cancelled, "publishing was interrupted");
  if (auto failure = failure_of(end, steps.last, request.options)) {
    co_return std::unexpected(*std::move(failure));
  }
  CO_TRY(Compiled compiled, co_await pool_.run([&]() -> Result<Compiled> {
    Report report = TRY(read_report(folder.work()));
    return store_.install(key, target_, std::move(report), folder.work() / "out");
  }));
  CO_TRY(Manifest manifest, manifest_of(request, compiled.report));
  co_return Published{.manifest = std::move(manifest),
                      .report = std::move(compiled.report),
                      .compiled = store_.folder(key),
                      .reused = false,
                      .peak_memory = end.peak_memory};
}

Task<Result<Path>> Publisher::compiled_for(std::string_view label, Manifest manifest, Pool& pool) {
  const std::string key =
      compiled_key(project_of(label), manifest.files, manifest.options, target_);
  CO_TRY(std::optional<Compiled> found,
         co_await pool.run([this, key] { return store_.find(key); }));
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
                         .cancel = cancel};
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
