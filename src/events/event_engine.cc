#include "events/event_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "async/sleep.h"
#include "base/log.h"
#include "core/event_reason.h"
#include "core/project.h"
#include "core/reason.h"
#include "events/event.h"
#include "meter/ledger_reader.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// How often it is looked whether the node has room, and how long after a disk that failed.
constexpr Duration kRoomLook = 10ms;
constexpr Duration kAfterTrouble = 1s;
constexpr std::size_t kUnsettledAtOnce = 1000;
constexpr std::size_t kLongestMessage = 1000;

std::string frame_of(const InvocationRecord& record) {
  std::string frame;
  encode_record(record, frame);
  return frame;
}

Ended ended(const EventEngine::Attempted& attempted) {
  Ended how{.reason = "", .tier = attempted.record ? attempted.record->tier : StartTier::None};
  if (attempted.outcome) return how;
  const std::string_view slug = attempted.outcome.error().reason;
  how.reason = slug.empty() ? reason::kInternal : slug;
  return how;
}

Result<InvocationRecord> record_in(const std::string& frame) {
  const auto payload = intact_frame(std::as_bytes(std::span(frame)));
  if (!payload) return fail(Code::DataLoss, "an event's record is damaged");
  return decode_record(*payload);
}

}  // namespace

EventEngine::EventEngine(Parts parts, Options options)
    : parts_(std::move(parts)),
      options_(options),
      pool_(parts_.loop, "events", 2),
      gate_(parts_.loop),
      look_(parts_.loop, [this] { look(); }),
      again_(parts_.loop, [this] { look(); }) {}

InvocationRecord EventEngine::lost_attempt(const WorkItem& item) {
  InvocationRecord record{.invocation = parts_.ids.next(),
                          .attempt = static_cast<std::uint16_t>(item.attempts + 1),
                          .time = now(),
                          .project = std::string(project_of(item.spec.lane)),
                          .caller = "",
                          .request_id = "",
                          .function = std::string(local_name(item.spec.lane)),
                          .version = {},
                          .memory_limit = {},
                          .memory_peak = {},
                          .received = {},
                          .sent = {},
                          .reason = std::string(reason::kAttemptLost),
                          .event = invocation_id_of(item.spec.id)};
  if (const auto request = parse_event_request(item.spec.detail)) {
    record.caller = request->caller;
    record.request_id = request->request_id.empty() ? item.spec.id : request->request_id;
  }
  return record;
}

// What is in the ledger already is told by the invocations that it names.
Status EventEngine::settle_left_overs(Ledger& ledger) {
  for (;;) {
    const auto items = TRY(parts_.store.queue().unsettled(kUnsettledAtOnce));
    if (items.empty()) return {};
    std::map<InvocationId, std::string> missing;
    std::vector<WorkQueue::Receipt> receipts;
    TimeRange range{.from = WallTime::max()};
    for (const WorkItem& item : items) {
      receipts.push_back({.id = item.spec.id, .receipt = item.receipt});
      const auto read = record_in(item.receipt);
      if (!read) {
        // Kept forever it would keep the node from starting.
        LOG(error, "the record of an event's attempt is lost", {"event", item.spec.id},
            {"error", read.error().message});
        continue;
      }
      const InvocationRecord& record = *read;
      range.from = std::min(range.from, record.time);
      missing.emplace(record.invocation, item.receipt);
    }
    TRY(for_each_record(ledger.folder(), range, [&](const InvocationRecord& record) -> Status {
      missing.erase(record.invocation);
      return {};
    }));
    for (const auto& [invocation, frame] : missing) TRY(ledger.append(frame));
    TRY(parts_.store.queue().settle(receipts));
  }
}

Status EventEngine::recover(Ledger& ledger) {
  TRY(settle_left_overs(ledger));
  for (const WorkItem& item : TRY(parts_.store.queue().recover(now())))
    TRY(ledger.append(frame_of(lost_attempt(item))));
  return {};
}

void EventEngine::start() {
  stopped_ = false;
  parts_.loop.spawn(sweep_now_and_then());
  wanted_ = true;
  look_.request();
}

Task<void> EventEngine::close() {
  stopped_ = true;
  auto closed = gate_.close();
  again_.cancel();
  closing_.cancel();
  for (const auto& [id, running] : running_) running->cancel.cancel();
  co_await closed;
  const Status settled = co_await pool_.run([&] { return parts_.store.queue().settle(settled_); });
  if (!settled)
    LOG(warn, "events are settled at the next start", {"error", settled.error().message});
}

Task<Result<WorkQueue::Enqueued>> EventEngine::accept(Submission submission) {
  const auto hold = gate_.hold();
  if (!hold) co_return refuse(reason::kDraining, "the node is shutting down");
  const WallTime at = now();
  WorkSpec spec{.id = to_string(parts_.ids.next()),
                .lane = std::move(submission.lane),
                .key = std::move(submission.key),
                .detail = std::move(submission.detail),
                .payload = {},
                .accepted = at,
                .expires = at + submission.max_age,
                .max_attempts = submission.max_attempts,
                .keep = submission.result_ttl,
                .notices = std::move(submission.notices),
                .told_by = std::move(submission.told_by)};
  CO_TRY(WorkQueue::Enqueued accepted, co_await pool_.run([&] {
    return parts_.store.accept(std::move(spec), submission.payload, submission.max_events);
  }));
  wanted_ = true;
  look_.request();
  co_return accepted;
}

Task<Result<WorkItem>> EventEngine::cancel(std::string id) {
  CO_TRY(WorkItem item, co_await pool_.run([&] { return parts_.store.queue().cancel(id, now()); }));
  if (const auto running = running_.find(id); running != running_.end())
    running->second->cancel.cancel();
  note_end();
  co_return item;
}

Task<Result<WorkItem>> EventEngine::redrive(WorkItem item, Duration max_age,
                                            std::uint64_t max_events) {
  CO_TRY(WorkItem again, co_await pool_.run([&]() -> Result<WorkItem> {
    WorkQueue& queue = parts_.store.queue();
    const WorkQueue::Counts counts = TRY(queue.counts(item.spec.lane));
    const auto count = [&](WorkState state) { return counts[static_cast<std::size_t>(state)]; };
    if (count(WorkState::Waiting) + count(WorkState::Leased) >= max_events)
      return refuse(reason::kQueueFull, fmt::format("{} events wait or run already", max_events));
    const WallTime at = now();
    return queue.redrive(item.spec.id, at, at + max_age);
  }));
  wanted_ = true;
  look_.request();
  co_return again;
}

Task<Result<WorkItem>> EventEngine::find(std::string id) {
  CO_TRY(std::optional<WorkItem> item,
         co_await pool_.run([&] { return parts_.store.queue().find(id); }));
  if (!item)
    co_return refuse(reason::kNotFound, fmt::format("there is no event '{}'", id.substr(0, 64)));
  co_return *std::move(item);
}

Task<Result<std::string>> EventEngine::result(WorkItem item) {
  co_return co_await pool_.run([&] { return parts_.store.result(item); });
}

Task<Result<std::optional<std::string>>> EventEngine::result_up_to(WorkItem item,
                                                                   std::size_t most) {
  co_return co_await pool_.run([&] { return parts_.store.result_up_to(item, most); });
}

Task<Result<std::vector<WorkItem>>> EventEngine::list(WorkQueue::ListAsk ask) {
  co_return co_await pool_.run([&] { return parts_.store.queue().list(ask); });
}

Task<Result<WorkQueue::Counts>> EventEngine::counts(std::string lane) {
  co_return co_await pool_.run([&] { return parts_.store.queue().counts(lane); });
}

Task<Result<WorkQueue::Overview>> EventEngine::overview() {
  co_return co_await pool_.run([&] { return parts_.store.queue().overview(); });
}

void EventEngine::look() {
  wanted_ = true;
  if (feeding_ || stopped_ || gate_.closed()) return;
  feeding_ = true;
  parts_.loop.spawn(feed());
}

Task<void> EventEngine::feed() {
  const auto hold = gate_.hold();
  while (std::exchange(wanted_, false) && !stopped_) {
    std::size_t leased = 1;
    while (leased > 0 && running_.size() < options_.concurrency && !stopped_)
      leased = co_await lease_some();
  }
  if (running_.size() < options_.concurrency && !stopped_) co_await arm();
  feeding_ = false;
  if (wanted_) look_.request();
}

Task<std::size_t> EventEngine::lease_some() {
  const WallTime at = now();
  const WorkQueue::LeaseAsk ask{.now = at,
                                .until = at + options_.lease,
                                .count = options_.concurrency - running_.size(),
                                .after_lane = last_lane_};
  auto leased = co_await pool_.run([&] { return parts_.store.queue().lease(ask); });
  if (!leased) {
    LOG(error, "no event can be leased", {"error", leased.error().message});
    co_return 0;
  }
  if (stopped_) {
    co_await give_back(*std::move(leased));
    co_return 0;
  }
  for (WorkItem& item : *leased) {
    last_lane_ = item.spec.lane;
    parts_.loop.spawn(work(std::move(item)));
  }
  co_return leased->size();
}

// What was leased while the node began to stop.
Task<void> EventEngine::give_back(std::vector<WorkItem> leased) {
  const WorkQueue::Failure stopping{.when = now(),
                                    .reason = std::string(reason::kDraining),
                                    .message = "the node was shutting down",
                                    .receipt = ""};
  for (const WorkItem& item : leased) {
    const Status back =
        co_await pool_.run([&] { return parts_.store.queue().put_back(lease_of(item), stopping); });
    if (!back) LOG(warn, "an event stays leased", {"error", back.error().message});
  }
}

// For when the next one is due. What is due and was not leased expires with the next sweep, or the
// disk fails.
Task<void> EventEngine::arm() {
  const auto due = co_await pool_.run([&] { return parts_.store.queue().next_due(); });
  if (due && !*due) co_return;
  const Duration wait = due ? **due - now() : Duration::zero();
  again_.arm_in(wait > Duration::zero() ? std::min<Duration>(wait, 1min) : kAfterTrouble);
}

Task<void> EventEngine::sweep_now_and_then() {
  const auto hold = gate_.hold();
  const Status cleaned = co_await pool_.run([&] { return parts_.store.remove_orphans(); });
  if (!cleaned) LOG(warn, "orphans of events stay", {"error", cleaned.error().message});
  do {
    // First what is held: a clock that leapt must not make the node take its own leases.
    co_await beat();
    co_await sweep();
  } while (co_await sleep_for(parts_.loop, std::min(options_.sweep_every, options_.lease / 3),
                              closing_.token()));
}

Task<void> EventEngine::sweep() {
  const WallTime at = now();
  std::vector<WorkQueue::Receipt> settled = std::exchange(settled_, {});
  const auto swept = co_await pool_.run([&]() -> Result<std::uint64_t> {
    TRY(parts_.store.queue().settle(settled));
    return parts_.store.sweep(at);
  });
  if (!swept) {
    std::ranges::move(settled, std::back_inserter(settled_));
    LOG(error, "events cannot be swept", {"error", swept.error().message});
  } else if (*swept > 0) {
    look_.request();
    note_end();
  }
}

// A lease that is lost ends its attempt.
Task<void> EventEngine::beat() {
  std::vector<Lease> leases;
  for (const auto& [id, running] : running_) leases.push_back(running->lease);
  const WallTime until = now() + options_.lease;
  for (const Lease& lease : leases) {
    const Status extended =
        co_await pool_.run([&] { return parts_.store.queue().extend(lease, until); });
    const auto running = running_.find(lease.id);
    if (!extended && extended.error().reason == reason::kConflict && running != running_.end() &&
        running->second->lease.epoch == lease.epoch) {
      running->second->cancel.cancel();
    }
  }
}

Task<Status> EventEngine::wait_for_room(CancelToken cancel) {
  while (!parts_.has_room()) {
    CO_TRY_STATUS(co_await sleep_for(parts_.loop, kRoomLook, cancel));
  }
  co_return Status{};
}

Task<EventEngine::Attempted> EventEngine::attempt(const WorkItem& item, CancelToken cancel) {
  Attempted none;
  if (!co_await wait_for_room(cancel)) {
    none.outcome = refuse(reason::kDraining, "the attempt was ended before it began");
    co_return none;
  }
  auto payload = co_await pool_.run([&] { return parts_.store.payload(item); });
  if (!payload) {
    none.outcome = std::unexpected(std::move(payload).error());
    co_return none;
  }
  co_return co_await parts_.run({.item = item,
                                 .event = invocation_id_of(item.spec.id),
                                 .number = static_cast<std::uint16_t>(item.attempts + 1),
                                 .payload = *std::move(payload),
                                 .cancel = cancel});
}

Task<void> EventEngine::work(WorkItem item) {
  const auto hold = gate_.hold();
  Running running{.lease = lease_of(item), .cancel = {}};
  Running*& place = running_[item.spec.id];
  // An attempt whose lease was lost: what it does counts no longer.
  if (place != nullptr) place->cancel.cancel();
  place = &running;
  if (gate_.closed()) running.cancel.cancel();
  co_await end(item, co_await attempt(item, running.cancel.token()));
  const auto mine = running_.find(item.spec.id);
  if (mine != running_.end() && mine->second == &running) running_.erase(mine);
  look_.request();
}

Task<void> EventEngine::end(const WorkItem& item, Attempted attempted) {
  const Verdict verdict = judge(
      ended(attempted),
      {.attempts = item.attempts, .kills = item.kills, .max_attempts = item.spec.max_attempts});
  const Status written = co_await write_end(item, verdict, attempted);
  count(item, verdict, written);
  if (written && (verdict == Verdict::Done || verdict == Verdict::Bury)) note_end();
  if (!written && written.error().reason != reason::kConflict)
    co_await keep_waiting(item, written.error());
  if (!attempted.record) co_return;
  const bool billed = written ? verdict != Verdict::PutBack : co_await was_cancelled(item.spec.id);
  if (billed) co_return co_await write_record(item, *attempted.record);
  // What no instance had begun is no attempt.
  if (attempted.record->tier == StartTier::None) co_return;
  co_await write_record(item, unbilled(*std::move(attempted.record)));
}

// By whoever sent it: what it has used so far is billed.
Task<bool> EventEngine::was_cancelled(std::string id) {
  const auto item = co_await pool_.run([&] { return parts_.store.queue().find(id); });
  co_return item && *item && (*item)->state == WorkState::Cancelled;
}

void EventEngine::count(const WorkItem& item, Verdict verdict, const Status& written) {
  metrics_.attempt(written ? std::optional(verdict) : std::nullopt);
  if (!written) return;
  if (verdict == Verdict::Done) metrics_.ended(WorkState::Done, now() - item.spec.accepted);
  if (verdict == Verdict::Bury) metrics_.ended(WorkState::Dead, now() - item.spec.accepted);
}

// A reply that cannot be kept: it is tried again, later and later.
Task<void> EventEngine::keep_waiting(const WorkItem& item, Error why) {
  LOG(error, "an event's attempt is lost", {"event", item.spec.id}, {"error", why.message});
  const WorkQueue::Failure failure{
      .when = now() + wait_after(options_.put_backs, item.put_back + 1, parts_.rng.next()),
      .reason = std::string(why.reason.empty() ? reason::kStorageFull : why.reason),
      .message = why.message.substr(0, kLongestMessage),
      .receipt = ""};
  const Status back =
      co_await pool_.run([&] { return parts_.store.queue().put_back(lease_of(item), failure); });
  if (!back) LOG(warn, "an event stays leased", {"error", back.error().message});
}

WallTime EventEngine::next_attempt(const WorkItem& item, Verdict verdict) {
  if (verdict == Verdict::Retry)
    return now() + wait_after(options_.retries, item.attempts + 1, parts_.rng.next());
  const bool stopping = closing_.cancelled();  // then nothing was in its way
  if (verdict == Verdict::PutBack && !stopping)
    return now() + wait_after(options_.put_backs, item.put_back + 1, parts_.rng.next());
  return now();
}

WorkQueue::Failure EventEngine::failure(const WorkItem& item, Verdict verdict,
                                        const Attempted& attempted) {
  return {.when = next_attempt(item, verdict),
          .reason = std::string(ended(attempted).reason),
          .message = attempted.outcome.error().message.substr(0, kLongestMessage),
          .killed = killed_instance(ended(attempted)),
          .receipt = attempted.record ? frame_of(*attempted.record) : "",
          .keep = std::max(item.spec.keep, options_.dead_keep)};
}

Task<Status> EventEngine::write_end(const WorkItem& item, Verdict verdict, Attempted& attempted) {
  const Lease lease = lease_of(item);
  if (verdict == Verdict::Done) {
    EventStore::Answer answer{.detail = std::move(attempted.detail),
                              .body = std::move(attempted.body),
                              .receipt = attempted.record ? frame_of(*attempted.record) : ""};
    const WallTime at = now();
    co_return co_await pool_.run(
        [&] { return parts_.store.complete(lease, at, std::move(answer)); });
  }
  const WorkQueue::Failure why = failure(item, verdict, attempted);
  co_return co_await pool_.run([&] {
    WorkQueue& queue = parts_.store.queue();
    if (verdict == Verdict::PutBack) return queue.put_back(lease, why);
    return verdict == Verdict::Retry ? queue.retry(lease, why) : queue.bury(lease, why);
  });
}

// A record that the ledger does not take is written at the next start: its receipt stays.
Task<void> EventEngine::write_record(const WorkItem& item, const InvocationRecord& record) {
  const Status written = co_await parts_.ledger.commit(record);
  if (written) settled_.push_back({.id = item.spec.id, .receipt = frame_of(record)});
  if (!written)
    LOG(error, "an event's record is not written yet", {"error", written.error().message});
}

}  // namespace mayfly
