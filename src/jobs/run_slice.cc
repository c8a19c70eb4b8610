#include "jobs/run_slice.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "async/cancel.h"
#include "async/gate.h"
#include "base/remove_tree.h"
#include "core/caller_reason.h"
#include "core/json_reader.h"
#include "core/printable.h"
#include "core/reason.h"
#include "publish/source_folder.h"
#include "publish/taken_file.h"

namespace mayfly {
namespace {

constexpr TreeLimits kLeftLimits{.depth = 8, .entries = 1000};
constexpr std::size_t kMostMetrics = 100;
constexpr std::size_t kMessagesOfRun = 500'000;
constexpr std::size_t kLongestReply = 2000;
constexpr Duration kSayEvery = std::chrono::milliseconds(50);

std::vector<JobFile> checkpoint_files(const SliceAsk& ask) {
  std::vector<JobFile> found;
  std::ranges::copy_if(ask.files, std::back_inserter(found), [&ask](const JobFile& file) {
    return file.role == FileRole::Checkpoint && file.slice == ask.job.slices;
  });
  return found;
}

// Names of files are whatever a function calls them.
std::string dump_json(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

// What the callbacks of one slice share.
struct RunSlices::Slice {
  Slice(SliceAsk& asked, const SliceParts& parts)
      : ask(asked), jail(parts.loop, parts.jobs), gate(parts.loop) {}
  SliceAsk& ask;
  SliceJail jail;
  Gate gate;  // of what is being kept
  Path work;
  JobProgress progress;
  Json metrics = Json::object();
  bool keeping = false;
  bool kept = false;  // since it began
  TimePoint said{};

  void say() {
    progress.metrics = dump_json(metrics);
    ask.on_progress(progress);
  }
};

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
  Slice slice(ask, parts_);
  slice.work = std::move(work);
  slice.progress = ask.job.progress;
  if (const auto before = parse_json(slice.progress.metrics, "metrics");
      before && before->is_object())
    slice.metrics = *before;
  CO_TRY(const JobSpec spec,
         co_await parts_.pool.run([&] { return lay_out(ask, code, slice.work); }));
  CancelSource stop;  // run() is asked, and says itself when it can
  const CancelCallback stopped(ask.stop, [&stop] { stop.cancel(); });
  const CancelCallback due(ask.due, [&stop] { stop.cancel(); });
  auto ended = co_await slice.jail.run(
      spec, {.stop = stop.token(), .kill = ask.kill, .stop_message = R"({"stop":true})"},
      [this, &slice](std::string_view message) { answer(slice, message); });
  co_await slice.gate.close();
  if (!ended) co_return std::unexpected(std::move(ended).error());
  slice.say();
  outcome.cpu = ended->cpu;
  outcome.memory = ended->peak_memory;
  outcome.retry = may_retry_slice(slice.jail, *ended);
  if (auto failure = failure_of_slice(slice.jail, *ended, spec))
    co_return std::unexpected(*std::move(failure));
  outcome.retry = false;  // what the function itself says stands
  co_return co_await parts_.pool.run([&] { return take_end(slice, outcome.pin); });
}

Result<JobSpec> RunSlices::lay_out(const SliceAsk& ask, const JobCode& code,
                                   const Path& work) const {
  const Path restored = work / "restored";
  TRY(make_directories(work));
  std::vector<SourceFile> files;
  for (const JobFile& file : checkpoint_files(ask)) {
    files.push_back(
        {.file = {.path = file.name, .sha256 = to_string(file.digest), .size = file.size},
         .blobs = &parts_.blobs});
  }
  TRY(mayfly::lay_out(files, restored));
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

void RunSlices::answer(Slice& slice, std::string_view text) {
  const auto message = parse_run_message(text);
  if (!message) return slice.jail.expel(message.error());
  if (const auto* progress = std::get_if<RunProgress>(&*message)) {
    slice.progress.fraction = progress->fraction;
    slice.progress.text = progress->text;
  } else if (const auto* metric = std::get_if<RunMetric>(&*message)) {
    slice.metrics[metric->name] = metric->value;
    if (slice.metrics.size() > kMostMetrics)
      return slice.jail.expel(
          refuse(reason::kTooLarge, fmt::format("more than {} metrics", kMostMetrics)).error());
  } else if (slice.keeping) {
    return slice.jail.expel(
        refuse(reason::kInstanceCrashed, "the job made two checkpoints at once").error());
  } else {
    slice.keeping = true;
    parts_.loop.spawn(keep(slice, std::get<RunCheckpoint>(*message).folder));
    return;
  }
  // However much it says.
  const TimePoint now = parts_.loop.clock().now();
  if (now - slice.said < kSayEvery) return;
  slice.said = now;
  slice.say();
}

Task<void> RunSlices::keep(Slice& slice, std::string folder) {
  const auto hold = slice.gate.hold();
  if (!hold) co_return;
  const auto work = [&]() -> Task<Status> {
    Pin pin = parts_.store.pin();
    CO_TRY(std::vector<JobFile> files, co_await parts_.pool.run([&] {
      return take(slice.work / folder, FileRole::Checkpoint, pin);
    }));
    co_return co_await slice.ask.keep("", std::move(files));
  };
  slice.say();
  const Status kept = co_await work();
  slice.keeping = false;
  // Nothing that the function could do about it.
  if (!kept && kept.error().reason == reason::kQuotaExceeded)
    co_return slice.jail.expel(kept.error());
  slice.kept = slice.kept || kept.has_value();
  if (kept) slice.jail.hear();
  Json reply{{"kept", kept.has_value()}};
  if (!kept) reply["error"] = printable(kept.error().message, kLongestReply);
  slice.jail.send(dump_json(reply));
}

Result<std::vector<JobFile>> RunSlices::take(const Path& folder, FileRole role, Pin& pin) const {
  std::vector<JobFile> files;
  Fd top = TRY(open_file(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  TRY(take_tree(std::move(top), kLeftLimits, [&](const TakenFile& file) -> Status {
    files.push_back(TRY(parts_.store.put(role, file.path, file.file, pin)));
    return {};
  }));
  TRY(remove_tree(folder));
  return files;
}

Result<JobStore::SliceResult> RunSlices::take_end(const Slice& slice, Pin& pin) const {
  const Fd file = TRY(open_left(slice.work / "end.json", kMaxRunEnd));
  const std::string text = TRY(read_all_fd(file.get(), kMaxRunEnd));
  const RunEnd end = TRY(parse_run_end(text));
  if (end.how == RunEnd::How::Raised) return refuse(reason::kFunctionError, end.error);
  JobStore::SliceResult result;
  result.finished = end.how == RunEnd::How::Finished;
  if (!result.finished && !slice.kept)
    return refuse(reason::kInstanceCrashed, "the job stopped without a checkpoint");
  if (!result.finished) return result;
  result.result = end.result;
  result.files = TRY(take(slice.work / "output", FileRole::Result, pin));
  return result;
}

}  // namespace mayfly
