#include "jobs/score_slice.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "core/reason.h"
#include "jobs/run_talk.h"

namespace mayfly {
namespace {

constexpr std::string_view kSchemaPath = "schema.json";

// parts/<number>/<split>/<file>
bool is_of_split(const Path& path, Split split) {
  const std::vector<Path> names(path.begin(), path.end());
  return names.size() == 4 && names[0] == "parts" && names[2] == Path(to_string(split));
}

Result<DatasetSchema> read_schema(const std::vector<SourceFile>& snapshot) {
  const auto found = std::ranges::find(snapshot, kSchemaPath,
                                       [](const SourceFile& source) { return source.file.path; });
  if (found == snapshot.end()) return fail(Code::DataLoss, "the snapshot has no schema.json");
  const auto digest = parse_digest(found->file.sha256);
  if (!digest) return fail(Code::DataLoss, "the digest of schema.json is none");
  const BlobFile blob = TRY(found->blobs->file(*digest));
  const std::string text = TRY(read_file(blob.path, kMaxSchemaJson));
  return parse_dataset_schema(text);
}

Result<ScoreJob> job_of(const SliceAsk& ask) {
  auto job = TRY(parse_score_job(ask.job.spec.detail));
  if (!job) return fail(Code::Internal, "the job's detail is no scoring");
  job->threads = std::max(ask.job.spec.cpus, 1U);
  job->memory = ask.job.spec.memory;
  return *std::move(job);
}

JobSpec spec_of_scoring(const SliceAsk& ask, const ScoreJob& job, const SourceFolder& folder,
                        Duration patience) {
  return {.label = label_of(ask.job),
          .runtime = RuntimeKind::Training,
          .source = folder.source(),
          .work = folder.work(),
          .request = to_json(job),
          .memory = ask.job.spec.memory,
          .threads = job.threads,
          .timeout = patience,
          .idle = true};
}

}  // namespace

std::vector<SourceFile> choose_scored(const std::vector<SourceFile>& snapshot,
                                      const DatasetSchema& schema, const ScoreJob& job) {
  const auto is_file_of = [&](const Path& path, std::span<const std::string> names) {
    return std::ranges::any_of(names, [&](const std::string& name) {
      const auto column = std::ranges::find(schema.columns, name, &SchemaColumn::name);
      return column != schema.columns.end() && path.filename().native().starts_with(fmt::format(
                                                   "c{}.", column - schema.columns.begin()));
    });
  };
  const std::vector<std::string> guess = guessed_by(job);
  const bool guesses =
      job.requests == 0 && std::ranges::any_of(guess, [&](const std::string& name) {
        return schema.find(name) != nullptr;
      });
  const auto is_wanted = [&](const Path& path) {
    if (path == kSchemaPath) return true;
    if (is_of_split(path, job.split))
      return job.requests == 0 || !is_file_of(path, std::span(&job.target, 1));
    return guesses && is_of_split(path, Split::Train) &&
           (path.filename() == "row.npy" || is_file_of(path, guess));
  };
  std::vector<SourceFile> chosen;
  for (const SourceFile& source : snapshot)
    if (is_wanted(source.file.path)) chosen.push_back(source);
  return chosen;
}

Task<SliceOutcome> ScoreSlices::run(SliceAsk ask) {
  SliceOutcome outcome{.result = JobStore::SliceResult{}, .retry = true, .pin = parts_.store.pin()};
  outcome.result = co_await run_in(ask, outcome);
  co_return outcome;
}

Task<Result<JobStore::SliceResult>> ScoreSlices::run_in(SliceAsk& ask, SliceOutcome& outcome) {
  CO_TRY(const ScoreJob job, job_of(ask));
  CO_TRY(const std::vector<SourceFile> snapshot, co_await find_splits_(ask.job));
  CO_TRY(SourceFolder folder,
         co_await parts_.pool.run([&] { return lay_out_sources(ask, job, snapshot); }));
  const JobSpec spec = spec_of_scoring(ask, job, folder, parts_.patience);
  SliceJail jail(parts_.loop, parts_.jobs);
  auto ended = co_await jail.run(
      spec, {.stop = {}, .kill = ask.kill, .stop_message = ""}, [&jail](std::string_view) {
        jail.expel(
            refuse(reason::kInstanceCrashed, "the job broke its protocol: it has nothing to say")
                .error());
      });
  Result<JobStore::SliceResult> result = fail(Code::Internal, "the scoring did not end");
  if (!ended) {
    result = std::unexpected(std::move(ended).error());
  } else {
    outcome.cpu = ended->cpu;
    outcome.memory = ended->peak_memory;
    outcome.retry = may_retry_slice(jail, *ended);
    if (auto failure = failure_of_slice(jail, *ended, spec)) {
      result = std::unexpected(*std::move(failure));
    } else {
      outcome.retry = false;  // what the worker says of models and rows stands
      result = co_await parts_.pool.run([&] { return take_end(job, folder.work(), outcome.pin); });
    }
  }
  co_await remove_folder(parts_.pool, std::move(folder));
  co_return result;
}

Result<SourceFolder> ScoreSlices::lay_out_sources(const SliceAsk& ask, const ScoreJob& job,
                                                  const std::vector<SourceFile>& snapshot) const {
  std::vector<SourceFile> sources = choose_scored(snapshot, TRY(read_schema(snapshot)), job);
  for (const std::string& model : job.models) {
    const std::string name = fmt::format("{}.onnx", model);
    const auto file = std::ranges::find_if(ask.files, [&](const JobFile& one) {
      return one.role == FileRole::Input && one.name == name;
    });
    if (file == ask.files.end())
      return refuse(reason::kInvalidInput, fmt::format("the job has no input '{}'", name));
    sources.push_back({.file = {.path = fmt::format("models/{}", name),
                                .sha256 = to_string(file->digest),
                                .size = file->size},
                       .blobs = &parts_.blobs});
  }
  return SourceFolder::create(parts_.tmp, sources);
}

Result<JobStore::SliceResult> ScoreSlices::take_end(const ScoreJob& job, const Path& work,
                                                    Pin& pin) const {
  const Fd file = TRY(open_left(work / "end.json", kMaxTrainEnd));
  const std::string text = TRY(read_all_fd(file.get(), kMaxTrainEnd));
  const TrainEnd end = TRY(parse_train_end(text));
  if (end.how == TrainEnd::How::Refused) return refuse(end.refused.reason, end.refused.message);
  if (end.how != TrainEnd::How::Finished)
    return refuse(reason::kInstanceCrashed, "the job broke its protocol: it has stopped");
  if (job.requests > 0) {
    std::ignore = TRY(parse_requests_result(end.result, job));
  } else {
    TRY(parse_score_result(end.result, job));
  }
  JobStore::SliceResult result;
  result.finished = true;
  result.result = end.result;
  result.files = TRY(take_folder(parts_, work / "output", FileRole::Result, pin));
  return result;
}

}  // namespace mayfly
