#include "events/event_engine.h"

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "async/sleep.h"
#include "base/file.h"
#include "core/event_reason.h"
#include "core/reason.h"
#include "events/event.h"
#include "meter/ledger_reader.h"
#include "store/local_blob_store.h"
#include "store/sqlite_work_queue.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

// A folder with a queue, blobs and a ledger, and engines on them, one after the other: each is what
// a server that has begun again is.
class EngineRig {
 public:
  using Answer = std::function<EventEngine::Attempted(const EventEngine::Attempt&)>;

  EngineRig() {
    std::filesystem::create_directories(folder_.path() / "blobs");
    std::filesystem::create_directories(folder_.path() / "tmp");
    blobs = LocalBlobStore::open(folder_.path() / "blobs", folder_.path() / "tmp").value();
    restart();
  }
  ~EngineRig() { stop(); }

  void stop() {
    if (engine) loop.run(engine->close());
    engine.reset();
  }
  // As after kill -9, if the engine has been given up before.
  void restart() {
    engine.reset();
    store.reset();
    writer.reset();
    ledger.reset();
    queue.reset();
    queue = SqliteWorkQueue::open(folder_.path() / "events.db").value();
    ledger = Ledger::open(folder_.path() / "ledger", loop.clock(), {}).value();
    writer = std::make_unique<LedgerWriter>(loop, *ledger);
    store = std::make_unique<EventStore>(*queue, *blobs, loop.clock());
    engine = std::make_unique<EventEngine>(
        EventEngine::Parts{
            .loop = loop,
            .store = *store,
            .rng = rng,
            .ids = ids,
            .ledger = *writer,
            .run = [this](EventEngine::Attempt attempt) { return run(std::move(attempt)); },
            .has_room = [this] { return room; }},
        EventEngine::Options{.concurrency = 2,
                             .sweep_every = 10ms,
                             .retries = {.first = 1ns, .longest = 1ns},
                             .put_backs = {.first = 1ns, .longest = 1ns}});
    REQUIRE(engine->recover(*ledger).has_value());
  }

  Task<EventEngine::Attempted> run(EventEngine::Attempt attempt) {
    ++attempts[attempt.item.spec.id];
    if (hang) {
      Future<void> ended(loop);
      auto promise = std::make_shared<Promise<void>>(ended.promise());
      const CancelCallback stop(attempt.cancel, [promise] { promise->set(); });
      (void)co_await ended;
      co_return failed(attempt, reason::kClientGone);
    }
    co_return answer(attempt);
  }

  static InvocationRecord record_for(const EventEngine::Attempt& attempt, std::string_view why) {
    InvocationRecord record;
    record.invocation = attempt.event;  // unique enough: of each event one attempt is looked at
    record.invocation.bytes[0] = static_cast<std::byte>(attempt.number);
    record.event = attempt.event;
    record.attempt = attempt.number;
    record.function = "f";
    record.tier = StartTier::Hot;
    record.run = 1ms;
    record.reason = std::string(why);
    return record;
  }
  static EventEngine::Attempted failed(const EventEngine::Attempt& attempt, std::string_view why) {
    EventEngine::Attempted attempted;
    attempted.outcome = refuse(why, "as the test wants it");
    attempted.record = record_for(attempt, why);
    return attempted;
  }
  static EventEngine::Attempted done(const EventEngine::Attempt& attempt) {
    EventEngine::Attempted attempted;
    attempted.detail = to_json(EventReply{});
    attempted.body = "reply to " + attempt.payload;
    attempted.record = record_for(attempt, "");
    return attempted;
  }

  std::string accept(const std::string& payload, const std::string& key = "") {
    const auto accepted = try_accept(payload, key);
    REQUIRE(accepted.has_value());
    return accepted->item.spec.id;
  }
  Result<WorkQueue::Enqueued> try_accept(const std::string& payload, const std::string& key = "") {
    return loop.run(engine->accept({.lane = "f",
                                    .key = key,
                                    .detail = to_json(EventRequest{.target = "/functions/f",
                                                                   .headers = {},
                                                                   .project = "default",
                                                                   .caller = "ci",
                                                                   .request_id = ""}),
                                    .payload = payload,
                                    .max_attempts = 3,
                                    .max_age = 1h,
                                    .result_ttl = 1h,
                                    .max_events = 100}));
  }
  WorkItem find(const std::string& id) { return loop.run(engine->find(id)).value(); }
  // Turns until it is so.
  void until(const std::function<bool()>& so) {
    while (!so()) {
      loop.poll();
      loop.run(pause());
    }
  }
  Task<void> pause() { (void)co_await sleep_for(loop, 1ms); }
  void until_over(const std::string& id) {
    until([&] { return is_over(find(id).state); });
  }
  std::vector<InvocationRecord> records() {
    std::vector<InvocationRecord> all;
    REQUIRE(for_each_record(folder_.path() / "ledger", {},
                            [&](const InvocationRecord& record) -> Status {
                              all.push_back(record);
                              return {};
                            })
                .has_value());
    return all;
  }
  std::size_t blob_count() {
    std::size_t count = 0;
    REQUIRE(blobs
                ->for_each([&](const BlobInfo&) -> Status {
                  ++count;
                  return {};
                })
                .has_value());
    return count;
  }

  TempDir folder_ = TempDir::create().value();
  Loop loop;
  SystemClock clock;
  SystemRng rng;
  InvocationIds ids{clock, rng};
  std::unique_ptr<LocalBlobStore> blobs;
  std::unique_ptr<SqliteWorkQueue> queue;
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<LedgerWriter> writer;
  std::unique_ptr<EventStore> store;
  Answer answer = done;
  bool room = true;
  bool hang = false;
  std::map<std::string, int> attempts;
  std::unique_ptr<EventEngine> engine;
};

}  // namespace

TEST_CASE("an accepted event runs, and its result is there as long as it was promised") {
  EngineRig rig;
  rig.engine->start();
  const std::string id = rig.accept("a");
  rig.until_over(id);
  const WorkItem item = rig.find(id);
  CHECK(item.state == WorkState::Done);
  CHECK(item.attempts == 1);
  CHECK(rig.loop.run(rig.engine->result(item)).value() == "reply to a");
  rig.until([&] { return !rig.records().empty(); });
  REQUIRE(rig.records().size() == 1);
  CHECK(to_string(*rig.records()[0].event) == id);
  CHECK(rig.records()[0].run == 1ms);
  CHECK(rig.accept("a", "k") != id);
}

TEST_CASE("the same key is the same event, another payload is refused") {
  EngineRig rig;
  const std::string id = rig.accept("a", "key");
  CHECK(rig.accept("a", "key") == id);
  CHECK(rig.try_accept("b", "key").error().reason == reason::kConflict);
}

TEST_CASE("what fails is tried again, each attempt with a record, and then given up") {
  EngineRig rig;
  rig.answer = [](const EventEngine::Attempt& attempt) {
    return EngineRig::failed(attempt, reason::kDeadlineExceeded);
  };
  rig.engine->start();
  const std::string id = rig.accept("a");
  rig.until_over(id);
  CHECK(rig.find(id).state == WorkState::Dead);
  CHECK(rig.find(id).reason == reason::kDeadlineExceeded);
  CHECK(rig.attempts[id] == 3);
  rig.until([&] { return rig.records().size() == 3; });
  for (const std::size_t i : {0U, 1U, 2U}) {
    CHECK(rig.records()[i].attempt == i + 1);
    CHECK(rig.records()[i].run == 1ms);
  }
  rig.answer = EngineRig::done;
  CHECK(rig.loop.run(rig.engine->redrive(rig.find(id), 1h, 0)).error().reason ==
        reason::kQueueFull);
  REQUIRE(rig.loop.run(rig.engine->redrive(rig.find(id), 1h, 1)).has_value());
  rig.until_over(id);
  CHECK(rig.find(id).state == WorkState::Done);
}

TEST_CASE("an event that kills its instance twice is a dead letter") {
  EngineRig rig;
  rig.answer = [](const EventEngine::Attempt& attempt) {
    return EngineRig::failed(attempt, reason::kInstanceCrashed);
  };
  rig.engine->start();
  const std::string id = rig.accept("a");
  rig.until_over(id);
  CHECK(rig.find(id).state == WorkState::Dead);
  CHECK(rig.attempts[id] == 2);
}

TEST_CASE("attempts that the platform lost neither count nor cost") {
  EngineRig rig;
  rig.answer = [&](const EventEngine::Attempt& attempt) {
    return rig.attempts[attempt.item.spec.id] < 5
               ? EngineRig::failed(attempt, reason::kMemoryPressure)
               : EngineRig::done(attempt);
  };
  rig.engine->start();
  const std::string id = rig.accept("a");
  rig.until_over(id);
  CHECK(rig.find(id).attempts == 1);
  rig.until([&] { return rig.records().size() == 5; });
  for (const InvocationRecord& record : rig.records())
    CHECK((record.tier == StartTier::None) == (record.reason == reason::kMemoryPressure));
}

TEST_CASE("events wait while the node has no room for guests, and no more run than may") {
  EngineRig rig;
  rig.room = false;
  rig.hang = true;
  rig.engine->start();
  for (int i = 0; i < 5; ++i) rig.accept(std::to_string(i));
  for (int i = 0; i < 50; ++i) rig.loop.run(rig.pause());
  CHECK(rig.attempts.empty());
  rig.room = true;
  rig.until([&] { return rig.attempts.size() == 2; });
  for (int i = 0; i < 50; ++i) rig.loop.run(rig.pause());
  CHECK(rig.attempts.size() == 2);
}

TEST_CASE("a cancelled event ends its attempt, whose time is billed") {
  EngineRig rig;
  rig.hang = true;
  rig.engine->start();
  const std::string id = rig.accept("a");
  rig.until([&] { return rig.attempts[id] == 1; });
  SUBCASE("by who cancels it") {
    CHECK(rig.loop.run(rig.engine->cancel(id))->state == WorkState::Cancelled);
  }
  SUBCASE("or by who looks at its lease, and comes before") {
    REQUIRE(rig.queue->cancel(id, rig.clock.wall_now()).has_value());
  }
  rig.until([&] { return rig.records().size() == 1; });
  CHECK(rig.records()[0].tier == StartTier::Hot);
  CHECK(rig.find(id).state == WorkState::Cancelled);
}

TEST_CASE("a node that stops puts back what runs, and the next one runs it") {
  EngineRig rig;
  rig.hang = true;
  rig.engine->start();
  const std::string id = rig.accept("a");
  rig.until([&] { return rig.attempts[id] == 1; });
  rig.stop();
  CHECK(rig.queue->find(id).value()->state == WorkState::Waiting);
  rig.hang = false;
  rig.restart();
  rig.engine->start();
  rig.until_over(id);
  CHECK(rig.find(id).state == WorkState::Done);
  CHECK(rig.find(id).attempts == 1);
}

TEST_CASE("a restart takes leases back at once, and writes what the bill lacks, once") {
  EngineRig rig;
  const std::string lost = rig.accept("a");
  const std::string ended = rig.accept("b");
  const std::string written = rig.accept("c");
  const WallTime now = rig.clock.wall_now();
  auto leased = rig.queue->lease({.now = now, .until = now + 1h, .count = 3, .after_lane = ""});
  REQUIRE(leased->size() == 3);
  // The server dies after it has committed two ends and written one of their records.
  for (const std::string& id : {ended, written}) {
    const WorkItem item = *rig.queue->find(id).value();
    const EventEngine::Attempt attempt{
        .item = item, .event = rig.ids.next(), .payload = "", .cancel = {}};
    std::string frame;
    encode_record(EngineRig::record_for(attempt, ""), frame);
    REQUIRE(
        rig.store->complete(lease_of(item), now, {.detail = "{}", .body = "x", .receipt = frame})
            .has_value());
    if (id == written) REQUIRE(rig.ledger->append(frame).has_value());
  }
  rig.stop();
  rig.restart();
  CHECK(rig.find(lost).state == WorkState::Waiting);
  CHECK(rig.find(ended).state == WorkState::Done);
  const auto records = rig.records();
  REQUIRE(records.size() == 3);
  CHECK(records[2].reason == reason::kAttemptLost);
  CHECK(records[2].tier == StartTier::None);
  CHECK(records[2].caller == "ci");
  CHECK(to_string(*records[2].event) == lost);
  rig.stop();
  rig.restart();
  CHECK(rig.records().size() == 3);
}

TEST_CASE("blobs go with the last event that names them, orphans with the next start") {
  EngineRig rig;
  const auto orphan = rig.blobs->create().value();
  REQUIRE(orphan->append(std::as_bytes(std::span(std::string_view("orphan")))).has_value());
  REQUIRE(orphan->commit().has_value());
  const std::string first = rig.accept("same");
  const std::string second = rig.accept("same");
  CHECK(rig.blob_count() == 2);
  rig.engine->start();
  rig.until_over(first);
  rig.until_over(second);
  CHECK(rig.blob_count() == 2);  // the payload and the one result
  const WallTime later = rig.clock.wall_now() + 2h;
  CHECK(rig.store->sweep(later).value() == 2);
  CHECK(rig.blob_count() == 0);
  CHECK(rig.find(first).cleared);
}
