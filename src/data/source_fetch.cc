#include "data/source_fetch.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "async/timer.h"
#include "base/log.h"
#include "core/caller_reason.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/store_reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

// Where what came of a source lies until it is whole: another job's is not its business.
Digest slot_of(std::string_view job, std::size_t source) {
  return sha256(fmt::format("source {} of {}", source, job));
}

std::vector<JobFile> files_of(const FetchState& state) {
  std::vector<JobFile> files;
  for (const FetchState::Got& got : state.got) {
    files.push_back({.role = FileRole::Checkpoint,
                     .name = fmt::format("input-{}", got.source),
                     .digest = got.digest,
                     .size = got.size});
  }
  return files;
}

}  // namespace

// One source on its way. Orders go from the loop to the thread that fetches, news back.
struct SourceFetch::Transfer {
  DownloadAsk ask;
  std::string name = {};
  std::size_t source = 0;
  std::optional<Digest> expected = {};
  Digest slot{};
  std::uint64_t quota_left = 0;  // where the project's jobs may keep less than a source may have
  std::unique_ptr<BlobWriter> into = nullptr;

  std::atomic<bool> end_now = false;   // without waiting for a good place
  std::atomic<bool> end_soon = false;  // where it can go on
  std::atomic<std::uint64_t> received = 0;
  std::atomic<std::uint64_t> total = 0;  // 0: unknown

  // Of the thread that fetches, until it has returned.
  std::uint64_t begun_at = 0;
  TimePoint begun{};
  bool stretch_over = false;
  FetchState::Got got = {};
};

JobStore::SliceResult SourceFetch::unfinished(const FetchState& state) {
  return {.finished = false, .checkpoint = to_json(state), .files = files_of(state), .result = {}};
}

Task<Status> SourceFetch::keep(SliceAsk& ask, const FetchState& state) {
  co_return co_await ask.keep(to_json(state), files_of(state));
}

Task<Result<SourceFetch::End>> SourceFetch::run(SliceAsk& ask, const IngestDetail& detail,
                                                Pin& pin) {
  CO_TRY(FetchState state, parse_fetch_state(ask.job.checkpoint));
  const std::string project(project_of(ask.job.spec.function));
  for (std::size_t i = 0; i < detail.sources.size(); ++i) {
    const IngestDetail::Source& source = detail.sources[i];
    if (!source.remote || state.find(i) != nullptr) continue;
    Transfer transfer{.ask = {.project = project, .source = *source.remote, .most = parts_.most},
                      .name = source.name,
                      .source = i,
                      .expected = source.digest,
                      .slot = slot_of(ask.job.spec.id, i)};
    if (state.at == i) transfer.ask.etag = state.etag;
    if (const Bytes limit = parts_.byte_limit(project); limit != Bytes{}) {
      CO_TRY(const Bytes used,
             co_await parts_.pool.run([&] { return parts_.store.bytes_of(project); }));
      transfer.quota_left = limit > used ? limit.count - used.count : 1;
      transfer.ask.most = std::min(transfer.ask.most, Bytes{transfer.quota_left});
    }
    CO_TRY(const Ended ended, co_await fetch_one(ask, transfer, state, pin));
    if (ended == Ended::Stretch) co_return End{.state = std::move(state), .whole = false};
  }
  co_return End{.state = std::move(state)};
}

// Stretch: its slice is over.
Task<Result<SourceFetch::Ended>> SourceFetch::fetch_one(SliceAsk& ask, Transfer& transfer,
                                                        FetchState& state, Pin& pin) {
  while (true) {
    const auto ended = co_await fetch_stretch(ask, transfer, pin);
    if (!ended) {
      transfer.into.reset();
      co_await forget(ask.job.spec.id, transfer.slot, ended.error());
      co_return std::unexpected(ended.error());
    }
    state.at = transfer.source;
    state.etag = transfer.ask.etag;
    if (*ended == Ended::Whole) state.got.push_back(transfer.got);
    CO_TRY_STATUS(co_await keep(ask, state));
    const bool over = ask.due.cancelled() || ask.stop.cancelled();
    if (*ended == Ended::Whole || over) co_return *ended;
  }
}

Task<Result<SourceFetch::Ended>> SourceFetch::fetch_stretch(SliceAsk& ask, Transfer& transfer,
                                                            Pin& pin) {
  const CancelCallback killed(ask.kill, [&] { transfer.end_now = true; });
  const CancelCallback due(ask.due, [&] { transfer.end_soon = true; });
  const CancelCallback stopped(ask.stop, [&] { transfer.end_soon = true; });
  std::optional<Timer> tell;
  const auto say = [&] {
    const std::uint64_t total = transfer.total;
    const Bytes received{transfer.received};
    ask.on_progress(
        {.fraction =
             total == 0 ? -1.0 : static_cast<double>(received.count) / static_cast<double>(total),
         .text = fmt::format("fetching {}: {}{}", transfer.name, to_string(received),
                             total == 0 ? "" : fmt::format(" of {}", to_string(Bytes{total})))});
    tell->arm_in(parts_.tell_every);
  };
  tell.emplace(parts_.loop, say);
  tell->arm_in(parts_.tell_every);
  co_return co_await parts_.pool.run([&] { return transfer_on_pool(transfer, pin); });
}

// What came without a digest or an ETag that vouches for it, in a slice before, is of no use.
Result<std::unique_ptr<BlobWriter>> SourceFetch::open(const Transfer& transfer) const {
  if (!transfer.expected && transfer.ask.etag.empty())
    TRY(parts_.blobs.drop_partial(transfer.slot));
  return parts_.blobs.resume(transfer.expected, transfer.slot);
}

Result<SourceFetch::Ended> SourceFetch::transfer_on_pool(Transfer& transfer, Pin& pin) const {
  if (transfer.into == nullptr) transfer.into = TRY(open(transfer));
  transfer.begun_at = transfer.into->offset();
  transfer.begun = SystemClock().now();
  transfer.stretch_over = false;
  DownloadAsk ask = transfer.ask;
  ask.on_progress = [&](const DownloadAsk::Standing& now) -> Status {
    transfer.received = now.received;
    transfer.total = now.total.value_or(0);
    if (transfer.end_now) return fail(Code::Cancelled, "the job was ended");
    // Without either, what came could not be gone on with.
    if (!transfer.expected && now.etag.empty()) return {};
    if (now.received == transfer.begun_at) return {};
    const bool enough = now.received - transfer.begun_at >= parts_.stretch.count ||
                        SystemClock().now() - transfer.begun >= parts_.stretch_time;
    if (!enough && !transfer.end_soon) return {};
    transfer.stretch_over = true;
    transfer.ask.etag = now.etag;
    return fail(Code::Cancelled, "the stretch is over");
  };
  auto done = parts_.download(ask, *transfer.into);
  if (transfer.stretch_over) return Ended::Stretch;
  if (!done && done.error().reason == reason::kTooLarge && transfer.quota_left > 0 &&
      transfer.quota_left < parts_.most.count) {
    return refuse(reason::kQuotaExceeded,
                  fmt::format("job_bytes: '{}' has more than the {} that are left for files of the "
                              "project's jobs",
                              transfer.name, to_string(Bytes{transfer.quota_left})));
  }
  if (!done) return std::unexpected(std::move(done).error());
  const BlobInfo blob = TRY(transfer.into->commit());
  transfer.into.reset();
  pin.add(blob.digest);
  parts_.store.watch(blob.digest);
  // Equal bytes may have been removed before they were pinned.
  if (!TRY(parts_.blobs.find(blob.digest)))
    return fail(Code::Unavailable, "what was fetched is gone", reason::kInternal);
  transfer.got = {.source = transfer.source,
                  .digest = blob.digest,
                  .size = blob.size,
                  .content_type = std::move(done->content_type)};
  transfer.ask.etag.clear();
  return Ended::Whole;
}

// What came stays where the job goes on with it.
Task<void> SourceFetch::forget(std::string job, Digest slot, const Error& why) {
  const bool passes = why.reason == reason::kDraining || why.reason == reason::kStoreUnavailable;
  const bool killed = why.code == Code::Cancelled;
  if (passes) co_return;
  const Status forgotten = co_await parts_.pool.run([&]() -> Status {
    if (killed) {
      const auto record = TRY(parts_.store.find(job));
      if (record && !is_over(record->state)) return {};
    }
    return parts_.blobs.drop_partial(slot);
  });
  if (!forgotten)
    LOG(warn, "what came of a source stays", {"job", job}, {"error", forgotten.error().message});
}

}  // namespace mayfly
