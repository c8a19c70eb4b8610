#include "jobs/run_talk.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <utility>
#include <variant>

#include "base/remove_tree.h"
#include "core/caller_reason.h"
#include "core/printable.h"
#include "core/reason.h"
#include "publish/taken_file.h"
#include "runner/report/run_job.h"

namespace mayfly {
namespace {

constexpr TreeLimits kLeftLimits{.depth = 8, .entries = 1000};
constexpr std::size_t kMostMetrics = 100;
constexpr std::size_t kLongestReply = 2000;
constexpr Duration kSayEvery = std::chrono::milliseconds(50);

// Names of files are whatever a function calls them.
std::string dump_json(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

RunTalk::RunTalk(SliceAsk& ask, const SliceParts& parts, Path work)
    : ask_(ask),
      parts_(parts),
      work_(std::move(work)),
      jail_(parts.loop, parts.jobs),
      gate_(parts.loop),
      progress_(ask.job.progress) {
  const auto before = parse_json(progress_.metrics, "metrics");
  if (before && before->is_object()) metrics_ = *before;
}

Task<Result<JobEnd>> RunTalk::run(JobSpec spec, std::string due_message) {
  auto ended = co_await jail_.run(std::move(spec),
                                  {.stop = ask_.stop,
                                   .kill = ask_.kill,
                                   .stop_message = kStopMessage,
                                   .due = ask_.due,
                                   .due_message = std::move(due_message)},
                                  [this](std::string_view message) { answer(message); });
  co_await gate_.close();
  if (ended) say();
  co_return ended;
}

void RunTalk::say() {
  progress_.metrics = dump_json(metrics_);
  ask_.on_progress(progress_);
}

void RunTalk::answer(std::string_view text) {
  const auto message = parse_run_message(text);
  if (!message) return jail_.expel(message.error());
  if (const auto* progress = std::get_if<RunProgress>(&*message)) {
    progress_.fraction = progress->fraction;
    progress_.text = progress->text;
  } else if (const auto* metric = std::get_if<RunMetric>(&*message)) {
    metrics_[metric->name] = metric->value;
    if (metrics_.size() > kMostMetrics)
      return jail_.expel(
          refuse(reason::kTooLarge, fmt::format("more than {} metrics", kMostMetrics)).error());
  } else if (keeping_) {
    return jail_.expel(
        refuse(reason::kInstanceCrashed, "the job made two checkpoints at once").error());
  } else {
    keeping_ = true;
    parts_.loop.spawn(keep(std::get<RunCheckpoint>(*message).folder));
    return;
  }
  // However much it says.
  const TimePoint now = parts_.loop.clock().now();
  if (now - said_ < kSayEvery) return;
  said_ = now;
  say();
}

Task<void> RunTalk::keep(std::string folder) {
  const auto hold = gate_.hold();
  if (!hold) co_return;
  const auto work = [&]() -> Task<Status> {
    Pin pin = parts_.store.pin();
    CO_TRY(std::vector<JobFile> files, co_await parts_.pool.run([&] {
      return take_folder(parts_, work_ / folder, FileRole::Checkpoint, pin);
    }));
    CO_TRY_STATUS(co_await ask_.keep("", files));
    last_kept_ = std::move(files);
    co_return Status{};
  };
  say();
  const Status kept = co_await work();
  keeping_ = false;
  // Nothing that the function could do about it.
  if (!kept && kept.error().reason == reason::kQuotaExceeded) co_return jail_.expel(kept.error());
  kept_ = kept_ || kept.has_value();
  if (kept) jail_.hear();
  Json reply{{"kept", kept.has_value()}};
  if (!kept) reply["error"] = printable(kept.error().message, kLongestReply);
  jail_.send(dump_json(reply));
}

std::vector<SourceFile> checkpoint_sources(const SliceAsk& ask, const SliceParts& parts) {
  std::vector<SourceFile> sources;
  for (const JobFile& file : ask.files) {
    if (file.role != FileRole::Checkpoint || file.slice != ask.job.slices) continue;
    sources.push_back(
        {.file = {.path = file.name, .sha256 = to_string(file.digest), .size = file.size},
         .blobs = &parts.blobs});
  }
  return sources;
}

Result<std::vector<JobFile>> take_folder(const SliceParts& parts, const Path& folder, FileRole role,
                                         Pin& pin) {
  std::vector<JobFile> files;
  Fd top = TRY(open_file(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  TRY(take_tree(std::move(top), kLeftLimits, [&](const TakenFile& file) -> Status {
    files.push_back(TRY(parts.store.put(role, file.path, file.file, pin)));
    return {};
  }));
  TRY(remove_tree(folder));
  return files;
}

}  // namespace mayfly
