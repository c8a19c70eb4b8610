// Runs accepted events, each until it has ended: at least once, with one result.
//
// What is due is leased, a few at a time (Options::concurrency), lanes in turn, and runs when the
// node has room for guests: requests that somebody waits for come first. What becomes of an attempt
// is decided by verdict.h; when the next comes, by backoff.h. While an attempt runs its lease is
// extended; one that was lost, because the event was cancelled, ends it.
//
// The bill: the record of an attempt is kept with what became of it, in one transaction, and only
// then written to the ledger. After a restart what had not been written yet is, once; attempts that
// the restart cut off get a record that costs nothing.
//
// Loop thread; what blocks runs on a pool of its own, behind no backup.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/cancel.h"
#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "async/timer.h"
#include "base/rng.h"
#include "core/invocation.h"
#include "events/backoff.h"
#include "events/event_metrics.h"
#include "events/event_store.h"
#include "events/verdict.h"
#include "meter/ledger.h"
#include "meter/record.h"
#include "serving/ledger_writer.h"

namespace mayfly {

class EventEngine {
 public:
  // One attempt, as whoever runs it is asked, and what he says of it.
  struct Attempt {
    const WorkItem& item;
    InvocationId event;
    std::uint16_t number = 1;
    std::string payload;
    CancelToken cancel;
  };
  struct Attempted {
    Status outcome;      // its error: why there is no result
    std::string detail;  // of the reply's head
    std::string body;
    std::optional<InvocationRecord> record;  // nullopt: no function was found
  };
  using Run = std::function<Task<Attempted>(Attempt attempt)>;

  struct Parts {  // all outlive me
    Loop& loop;
    EventStore& store;
    Rng& rng;
    InvocationIds& ids;
    LedgerWriter& ledger;
    Run run;
    std::function<bool()> has_room;          // for guests
    std::function<void()> on_end = nullptr;  // an event may have ended
  };
  struct Options {
    std::uint32_t concurrency = 4;
    Duration lease = std::chrono::minutes(1);
    Duration sweep_every = std::chrono::seconds(10);
    Duration dead_keep = std::chrono::days(14);  // how long dead letters can be redriven
    Backoff retries{};
    Backoff put_backs{.first = std::chrono::milliseconds(200), .longest = std::chrono::seconds(30)};
  };

  EventEngine(Parts parts, Options options);

  // Before anything else, once: what a killed server left is made whole. Blocks.
  Status recover(Ledger& ledger);
  void start();
  // Leases nothing more.
  void stop() { stopped_ = true; }
  // Ends what runs, as if it had not begun, and waits for it.
  Task<void> close();

  struct Submission {
    std::string lane;
    std::string key;     // of idempotency; may be empty
    std::string detail;  // to_json(EventRequest)
    std::string payload;
    std::uint32_t max_attempts = 1;
    Duration max_age{};
    Duration result_ttl{};
    std::uint64_t max_events = 0;
    Notices notices = {};
    DeliveryKey told_by = {};  // the delivery that it is
  };
  // Durable when it ends. conflict, queue_full, storage_full.
  Task<Result<WorkQueue::Enqueued>> accept(Submission submission);
  Task<Result<WorkItem>> cancel(std::string id);
  // queue_full: `max_events` of its lane are not over.
  Task<Result<WorkItem>> redrive(WorkItem item, Duration max_age, std::uint64_t max_events);
  WallTime now() const { return parts_.loop.clock().wall_now(); }
  // not_found.
  Task<Result<WorkItem>> find(std::string id);
  Task<Result<std::string>> result(WorkItem item);
  // nullopt: it is larger than that.
  Task<Result<std::optional<std::string>>> result_up_to(WorkItem item, std::size_t most);
  Task<Result<std::vector<WorkItem>>> list(WorkQueue::ListAsk ask);
  Task<Result<WorkQueue::Counts>> counts(std::string lane);
  Task<Result<WorkQueue::Overview>> overview();
  EventMetrics& metrics() { return metrics_; }
  // For what else of events blocks.
  Pool& pool() { return pool_; }

 private:
  struct Running {
    Lease lease;
    CancelSource cancel;
  };

  void look();
  Task<void> feed();
  Task<std::size_t> lease_some();
  Task<void> arm();
  Task<void> sweep_now_and_then();
  Task<void> sweep();
  Task<void> beat();
  Task<void> work(WorkItem item);
  Task<Status> wait_for_room(CancelToken cancel);
  Task<Attempted> attempt(const WorkItem& item, CancelToken cancel);
  Task<void> end(const WorkItem& item, Attempted attempted);
  Task<bool> was_cancelled(std::string id);
  Task<Status> write_end(const WorkItem& item, Verdict verdict, Attempted& attempted);
  void note_end() const {
    if (parts_.on_end) parts_.on_end();
  }
  void count(const WorkItem& item, Verdict verdict, const Status& written);
  Task<void> keep_waiting(const WorkItem& item, Error why);
  WallTime next_attempt(const WorkItem& item, Verdict verdict);
  WorkQueue::Failure failure(const WorkItem& item, Verdict verdict, const Attempted& attempted);
  Task<void> write_record(const WorkItem& item, const InvocationRecord& record);
  Task<void> give_back(std::vector<WorkItem> leased);
  Status settle_left_overs(Ledger& ledger);
  InvocationRecord lost_attempt(const WorkItem& item);

  Parts parts_;
  Options options_;
  Pool pool_;
  Gate gate_;
  CancelSource closing_;
  EventMetrics metrics_;
  TurnEnd look_;
  Timer again_;
  std::map<std::string, Running*> running_;  // by id
  std::vector<WorkQueue::Receipt> settled_;  // that are in the ledger
  std::string last_lane_;
  bool feeding_ = false;
  bool wanted_ = false;  // something came while it was fed
  bool stopped_ = true;  // until start()
};

}  // namespace mayfly
