#include "jobs/train_slice.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/reason.h"
#include "jobs/run_talk.h"

namespace mayfly {
namespace {

constexpr std::size_t kMessagesOfTraining = 1'000'000;

bool is_of_test(const SourceFile& source) {
  const Path path(source.file.path);
  return std::ranges::find(path, Path("test")) != path.end();
}

}  // namespace

Task<SliceOutcome> TrainSlices::run(SliceAsk ask) {
  SliceOutcome outcome{.result = JobStore::SliceResult{}, .retry = true, .pin = parts_.store.pin()};
  std::optional<SourceFolder> folder;
  outcome.result = co_await run_in(ask, folder, outcome);
  if (folder) co_await remove_folder(parts_.pool, *std::move(folder));
  co_return outcome;
}

Task<Result<JobStore::SliceResult>> TrainSlices::run_in(SliceAsk& ask,
                                                        std::optional<SourceFolder>& folder,
                                                        SliceOutcome& outcome) {
  CO_TRY(const std::vector<SourceFile> snapshot, co_await find_snapshot_(ask.job));
  if (std::ranges::any_of(snapshot, is_of_test))
    co_return fail(Code::Internal, "a file of the test split was to be mounted into a training");
  CO_TRY(SourceFolder made,
         co_await parts_.pool.run([&] { return SourceFolder::create(parts_.tmp, snapshot); }));
  folder.emplace(std::move(made));
  CO_TRY(const JobSpec spec, co_await parts_.pool.run([&] { return spec_of(ask, *folder); }));
  RunTalk talk(ask, parts_, folder->work());
  auto ended = co_await talk.run(spec, R"({"due":true})");
  if (!ended) co_return std::unexpected(std::move(ended).error());
  outcome.cpu = ended->cpu;
  outcome.memory = ended->peak_memory;
  outcome.retry = may_retry_slice(talk.jail(), *ended);
  if (auto failure = failure_of_slice(talk.jail(), *ended, spec))
    co_return std::unexpected(*std::move(failure));
  outcome.retry = false;  // what the worker says of its data stands
  co_return co_await parts_.pool.run(
      [&] { return take_end(ask, folder->work(), talk, outcome.pin); });
}

Result<JobSpec> TrainSlices::spec_of(const SliceAsk& ask, const SourceFolder& folder) const {
  auto job = TRY(parse_train_job(ask.job.spec.detail));
  if (!job) return fail(Code::Internal, "the job's detail is no training");
  if (job->workers > ask.job.spec.cpus)
    return refuse(reason::kTooLarge,
                  fmt::format("{} workers are more than jobs have processors: {} (jobs.cpus)",
                              job->workers, ask.job.spec.cpus));
  job->threads = ask.job.spec.cpus / job->workers;
  job->memory = ask.job.spec.memory;
  const std::vector<SourceFile> checkpoint = checkpoint_sources(ask, parts_);
  job->restored = !checkpoint.empty();
  TRY(lay_out(checkpoint, folder.work() / "restored"));
  return JobSpec{
      .label = label_of(ask.job),
      .runtime = RuntimeKind::Training,
      .source = folder.source(),
      .work = folder.work(),
      .request = to_json(*job),
      .max_messages = kMessagesOfTraining,
      .memory = ask.job.spec.memory,
      .threads = ask.job.spec.cpus,
      .timeout = trainer_info(job->trainer).interruptible ? parts_.patience : kUninterrupted,
      .loopback = job->workers > 1,
      .idle = true};
}

Result<JobStore::SliceResult> TrainSlices::take_end(const SliceAsk& ask, const Path& work,
                                                    const RunTalk& talk, Pin& pin) const {
  const Fd file = TRY(open_left(work / "end.json", kMaxTrainEnd));
  const std::string text = TRY(read_all_fd(file.get(), kMaxTrainEnd));
  const TrainEnd end = TRY(parse_train_end(text));
  if (end.how == TrainEnd::How::Refused) return refuse(end.refused.reason, end.refused.message);
  JobStore::SliceResult result;
  result.finished = end.how == TrainEnd::How::Finished;
  if (!result.finished && !talk.kept())
    return refuse(reason::kInstanceCrashed, "the training stopped without a checkpoint");
  if (!result.finished) return result;
  result.result = end.result;
  result.files = TRY(take_folder(parts_, work / "output", FileRole::Result, pin));
  const auto job = TRY(parse_train_job(ask.job.spec.detail));
  if (!job || job->rounds == 0) return result;
  for (JobFile kept : talk.last_kept()) {
    kept.role = FileRole::Result;
    kept.name = fmt::format("checkpoint/{}", kept.name);
    result.files.push_back(std::move(kept));
  }
  return result;
}

}  // namespace mayfly
