#include "jobs/run_slice.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "core/reason.h"
#include "jobs/run_talk.h"
#include "publish/source_folder.h"

namespace mayfly {
namespace {

constexpr std::size_t kMessagesOfRun = 500'000;

}  // namespace

Task<SliceOutcome> RunSlices::run(SliceAsk ask) {
  SliceOutcome outcome{.result = JobStore::SliceResult{}, .retry = true, .pin = parts_.store.pin()};
  auto folder = co_await parts_.pool.run([&] { return TempDir::create(parts_.tmp); });
  if (!folder) {
    outcome.result = std::unexpected(std::move(folder).error());
    co_return outcome;
  }
  outcome.result = co_await run_in(ask, folder->path() / "work", outcome);
  co_await remove_folder(parts_.pool, *std::move(folder));
  co_return outcome;
}

Task<Result<JobStore::SliceResult>> RunSlices::run_in(SliceAsk& ask, Path work,
                                                      SliceOutcome& outcome) {
  CO_TRY(const JobCode code, co_await find_code_(ask.job));
  RunTalk talk(ask, parts_, work);
  CO_TRY(const JobSpec spec, co_await parts_.pool.run([&] { return lay_out(ask, code, work); }));
  auto ended = co_await talk.run(spec);
  if (!ended) co_return std::unexpected(std::move(ended).error());
  outcome.cpu = ended->cpu;
  outcome.memory = ended->peak_memory;
  outcome.retry = may_retry_slice(talk.jail(), *ended);
  if (auto failure = failure_of_slice(talk.jail(), *ended, spec))
    co_return std::unexpected(*std::move(failure));
  outcome.retry = false;  // what the function itself says stands
  const bool kept = talk.kept();
  co_return co_await parts_.pool.run([&] { return take_end(work, kept, outcome.pin); });
}

Result<JobSpec> RunSlices::lay_out(const SliceAsk& ask, const JobCode& code,
                                   const Path& work) const {
  TRY(make_directories(work));
  TRY(mayfly::lay_out(checkpoint_sources(ask, parts_), work / "restored"));
  return JobSpec{.label = label_of(ask.job),
                 .runtime = RuntimeKind::Python,
                 .source = code.artifact,
                 .work = work,
                 .request = to_json(RunJob{.inputs = ask.job.spec.detail,
                                           .threads = ask.job.spec.cpus,
                                           .restored = ask.job.slices > 0,
                                           .invocation = ask.job.spec.id}),
                 .max_messages = kMessagesOfRun,
                 .memory = ask.job.spec.memory,
                 .threads = ask.job.spec.cpus,
                 .timeout = parts_.patience,
                 .secrets = code.secrets,
                 .environment = code.environment,
                 .tools = JobTools::Programs,
                 .idle = true};
}

Result<JobStore::SliceResult> RunSlices::take_end(const Path& work, bool kept, Pin& pin) const {
  const Fd file = TRY(open_left(work / "end.json", kMaxRunEnd));
  const std::string text = TRY(read_all_fd(file.get(), kMaxRunEnd));
  const RunEnd end = TRY(parse_run_end(text));
  if (end.how == RunEnd::How::Raised) return refuse(reason::kFunctionError, end.error);
  JobStore::SliceResult result;
  result.finished = end.how == RunEnd::How::Finished;
  if (!result.finished && !kept)
    return refuse(reason::kInstanceCrashed, "the job stopped without a checkpoint");
  if (!result.finished) return result;
  result.result = end.result;
  result.files = TRY(take_folder(parts_, work / "output", FileRole::Result, pin));
  return result;
}

}  // namespace mayfly
