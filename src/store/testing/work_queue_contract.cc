#include "store/testing/work_queue_contract.h"

#include <string>

#include "core/reason.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr WallTime kStart{1'000h};
constexpr std::uint64_t kPlenty = 1000;

WorkSpec spec(std::string id, std::string lane = "f", std::string key = "") {
  const std::string text = id + "-payload";
  return {.id = std::move(id),
          .lane = std::move(lane),
          .key = std::move(key),
          .detail = "{}",
          .payload = sha256(text),
          .accepted = kStart,
          .expires = kStart + 1h,
          .max_attempts = 3,
          .keep = 24h};
}

WorkItem lease_one(WorkQueue& queue, WallTime now = kStart) {
  const auto leased = queue.lease({.now = now, .until = now + 1min, .count = 1, .after_lane = ""});
  REQUIRE(leased.has_value());
  REQUIRE(leased->size() == 1);
  return leased->front();
}

std::size_t leasable(WorkQueue& queue, WallTime now) {
  return queue.lease({.now = now, .until = now + 1min, .count = 10, .after_lane = ""})->size();
}

WorkItem found(WorkQueue& queue, const std::string& id) {
  const auto item = queue.find(id);
  REQUIRE(item.has_value());
  REQUIRE(item->has_value());
  return **item;
}

WorkQueue::Finish finish(std::string receipt = "") {
  return {.now = kStart + 1s,
          .result = {.detail = "200", .blob = sha256("result")},
          .receipt = std::move(receipt)};
}

WorkQueue::Failure failure(WallTime when, std::string reason) {
  return {.when = when, .reason = std::move(reason), .message = "why", .receipt = "", .keep = 48h};
}

}  // namespace

void check_acceptance(const ReopenQueue& reopen) {
  WorkQueue& queue = reopen();
  const auto first = queue.enqueue(spec("a", "f", "key"), kPlenty);
  REQUIRE(first.has_value());
  CHECK(first->fresh);
  CHECK(found(reopen(), "a").spec == spec("a", "f", "key"));
  CHECK_FALSE(queue.find("b").value().has_value());

  WorkQueue& again = reopen();
  WorkSpec repeated = spec("b", "f", "key");
  CHECK(again.enqueue(repeated, kPlenty).error().reason == reason::kConflict);
  repeated.payload = spec("a").payload;
  const auto second = again.enqueue(repeated, kPlenty);
  REQUIRE(second.has_value());
  CHECK_FALSE(second->fresh);
  CHECK(second->item.spec.id == "a");
  CHECK(again.enqueue(spec("b", "g", "key"), kPlenty)->fresh);  // another lane, another key

  CHECK(again.enqueue(spec("c"), 1).error().reason == reason::kQueueFull);
  CHECK(again.enqueue(spec("c", "h"), 1).has_value());
}

void check_leases(const ReopenQueue& reopen) {
  WorkQueue& queue = reopen();
  REQUIRE(queue.enqueue(spec("a"), kPlenty).has_value());
  const WorkItem first = lease_one(queue);
  CHECK(first.state == WorkState::Leased);
  CHECK(leasable(queue, kStart) == 0);
  CHECK(queue.extend(lease_of(first), kStart + 5min).has_value());
  CHECK(queue.sweep(kStart + 4min, 10)->changed == 0);
  CHECK(queue.sweep(kStart + 5min, 10)->changed == 1);  // it ran out

  // Whoever held it has lost it, whatever he tries, also when somebody else holds it.
  const auto check_lost = [&](const Lease& lost) {
    CHECK(queue.complete(lost, finish()).error().reason == reason::kConflict);
    CHECK(queue.extend(lost, kStart + 9min).error().reason == reason::kConflict);
    CHECK(queue.put_back(lost, failure(kStart, "x")).error().reason == reason::kConflict);
    CHECK(queue.retry(lost, failure(kStart, "x")).error().reason == reason::kConflict);
    CHECK(queue.bury(lost, failure(kStart, "x")).error().reason == reason::kConflict);
  };
  check_lost(lease_of(first));
  const WorkItem second = lease_one(queue, kStart + 5min);
  CHECK(second.epoch > first.epoch);
  CHECK(second.attempts == 0);
  check_lost(lease_of(first));

  // A restart takes every lease back at once.
  WorkQueue& restarted = reopen();
  const auto taken = restarted.recover(kStart + 6min);
  REQUIRE(taken->size() == 1);
  CHECK(taken->front().attempts == 0);
  CHECK(restarted.complete(lease_of(second), finish()).error().reason == reason::kConflict);
  const WorkItem third = lease_one(restarted, kStart + 6min);
  CHECK(restarted.complete(lease_of(third), finish()).has_value());
  CHECK(restarted.complete(lease_of(third), finish()).error().reason == reason::kConflict);
  CHECK(found(reopen(), "a").state == WorkState::Done);
}

void check_ends(const ReopenQueue& reopen) {
  WorkQueue& queue = reopen();
  for (const char* id : {"a", "b", "c"}) REQUIRE(queue.enqueue(spec(id), kPlenty).has_value());
  REQUIRE(queue.complete(lease_of(lease_one(queue)), finish("receipt")).has_value());
  const WorkItem done = found(reopen(), "a");
  CHECK(done.attempts == 1);
  CHECK(done.result == WorkResult{.detail = "200", .blob = sha256("result")});

  WorkQueue& again = reopen();
  REQUIRE(again.unsettled(10)->size() == 1);
  CHECK(again.unsettled(10)->front().receipt == "receipt");
  CHECK(again.settle({{.id = "a", .receipt = "older"}}).has_value());
  CHECK(again.unsettled(10)->size() == 1);
  CHECK(again.settle({{.id = "a", .receipt = "receipt"}}).has_value());
  CHECK(again.unsettled(10)->empty());

  auto killed = failure(kStart + 10s, "instance_crashed");
  killed.killed = true;
  REQUIRE(again.retry(lease_of(lease_one(again)), killed).has_value());
  const WorkItem waiting = found(again, "b");
  CHECK(waiting.state == WorkState::Waiting);
  CHECK(waiting.attempts == 1);
  CHECK(waiting.kills == 1);
  CHECK(waiting.reason == "instance_crashed");
  const WorkItem other = lease_one(again, kStart + 9s);  // b is not due
  CHECK(other.spec.id == "c");
  REQUIRE(again.put_back(lease_of(other), failure(kStart + 20s, "busy")).has_value());
  CHECK(found(again, "c").attempts == 0);
  CHECK(found(again, "c").put_back == 1);
  CHECK(found(again, "c").reason == "busy");
  CHECK(again.next_due().value() == kStart + 10s);

  REQUIRE(
      again.bury(lease_of(lease_one(again, kStart + 10s)), failure(kStart + 11s, "x")).has_value());
  CHECK(found(again, "b").state == WorkState::Dead);
  CHECK(again.redrive("a", kStart, kStart + 1h).error().reason == reason::kConflict);
  CHECK(again.redrive("zz", kStart, kStart + 1h).error().reason == reason::kNotFound);
  const auto redriven = again.redrive("b", kStart + 12s, kStart + 2h);
  REQUIRE(redriven.has_value());
  CHECK(redriven->state == WorkState::Waiting);
  CHECK(redriven->attempts == 0);
  CHECK(redriven->spec.expires == kStart + 2h);

  const WorkItem running = lease_one(again, kStart + 12s);
  CHECK(again.cancel("b", kStart + 13s)->state == WorkState::Cancelled);
  CHECK(again.complete(lease_of(running), finish()).error().reason == reason::kConflict);
  CHECK(again.cancel("a", kStart + 13s)->state == WorkState::Done);  // as it ended
  CHECK(again.cancel("zz", kStart).error().reason == reason::kNotFound);
  CHECK(found(reopen(), "b").state == WorkState::Cancelled);
}

void check_turns(const ReopenQueue& reopen) {
  WorkQueue& queue = reopen();
  for (const char* id : {"a", "b", "c", "d"})
    REQUIRE(queue.enqueue(spec(id, "busy"), kPlenty).has_value());
  REQUIRE(queue.enqueue(spec("e", "calm"), kPlenty).has_value());
  WorkSpec later = spec("f", "later");
  later.accepted = kStart + 1min;
  REQUIRE(queue.enqueue(later, kPlenty).has_value());
  const auto three =
      queue.lease({.now = kStart, .until = kStart + 1min, .count = 3, .after_lane = "busy"});
  REQUIRE(three->size() == 3);
  CHECK(three->at(0).spec.id == "e");
  CHECK(three->at(1).spec.id == "a");
  CHECK(three->at(2).spec.id == "b");
  CHECK(leasable(queue, kStart) == 2);
  CHECK(leasable(queue, kStart) == 0);
  CHECK(leasable(queue, kStart + 1min) == 1);
}

void check_sweeping(const ReopenQueue& reopen) {
  WorkQueue& queue = reopen();
  REQUIRE(queue.enqueue(spec("a", "f", "key"), kPlenty).has_value());
  REQUIRE(queue.complete(lease_of(lease_one(queue)), finish()).has_value());
  REQUIRE(queue.enqueue(spec("b"), kPlenty).has_value());
  CHECK(leasable(queue, kStart + 1h) == 0);  // nobody works on what has expired
  CHECK(queue.sweep(kStart + 1h - 1s, 10)->changed == 0);
  CHECK(queue.sweep(kStart + 1h, 10)->changed == 1);
  CHECK(found(queue, "b").state == WorkState::Expired);

  const WallTime gone = kStart + 1s + 24h;
  CHECK(queue.refers_to(sha256("result")).value());
  CHECK(queue.sweep(gone - 1ns, 10)->changed == 0);
  const auto swept = queue.sweep(gone, 10);
  CHECK(swept->unreferenced == std::vector{sha256("a-payload"), sha256("result")});
  CHECK_FALSE(queue.refers_to(sha256("result")).value());
  const WorkItem remembered = found(reopen(), "a");
  CHECK(remembered.cleared);
  CHECK(remembered.state == WorkState::Done);
  WorkQueue& again = reopen();
  CHECK(again.enqueue(spec("c", "f", "key"), kPlenty)->fresh);  // the key went with the result
  REQUIRE(again.sweep(gone + WorkQueue::kRemembered, 10).has_value());
  CHECK_FALSE(again.find("a").value().has_value());
}

void check_listing(const ReopenQueue& reopen) {
  WorkQueue& queue = reopen();
  for (const char* id : {"a", "b", "c", "d"}) REQUIRE(queue.enqueue(spec(id), kPlenty).has_value());
  REQUIRE(queue.enqueue(spec("e", "other"), kPlenty).has_value());
  REQUIRE(queue.bury(lease_of(lease_one(queue)), failure(kStart, "x")).has_value());
  const auto ids = [](const Result<std::vector<WorkItem>>& items) {
    std::string text;
    for (const WorkItem& item : items.value()) text += item.spec.id;
    return text;
  };
  CHECK(ids(queue.list({.lane = "f", .state = {}, .before = "", .limit = 3})) == "dcb");
  CHECK(ids(queue.list({.lane = "f", .state = {}, .before = "b", .limit = 3})) == "a");
  CHECK(ids(queue.list({.lane = "f", .state = WorkState::Dead, .before = "", .limit = 3})) == "a");
  const auto waiting = static_cast<std::size_t>(WorkState::Waiting);
  CHECK(queue.counts("f").value()[waiting] == 3);
  CHECK(queue.counts("f").value()[static_cast<std::size_t>(WorkState::Dead)] == 1);
  CHECK(reopen().counts("other").value()[waiting] == 1);
  CHECK(reopen().counts("nobody").value() == WorkQueue::Counts{});
  CHECK(queue.overview()->counts[waiting] == 4);
  CHECK(queue.overview()->oldest_waiting == kStart);
  for (const char* id : {"b", "c", "d", "e"}) REQUIRE(queue.cancel(id, kStart).has_value());
  CHECK(queue.overview()->counts[waiting] == 0);
  CHECK_FALSE(queue.overview()->oldest_waiting.has_value());
}

namespace {

WorkSpec telling(std::string id, std::string lane = "f") {
  WorkSpec item = spec(std::move(id), std::move(lane));
  item.notices = {.success = "https://yes.example/x", .failure = "function:no", .depth = 2};
  return item;
}

std::vector<Delivery> to_tell(WorkQueue& queue, WallTime now, std::size_t per_host = 10) {
  return queue.deliveries()
      .lease({.now = now, .count = 10, .per_project = 3, .per_host = per_host, .after_project = ""})
      .value();
}

std::string told(const std::vector<Delivery>& deliveries) {
  std::string text;
  for (const Delivery& delivery : deliveries) text += delivery.key.item;
  return text;
}

}  // namespace

void check_deliveries(const ReopenQueue& reopen) {
  WorkQueue& queue = reopen();
  REQUIRE(queue.enqueue(telling("a"), kPlenty).has_value());
  REQUIRE(queue.enqueue(spec("b"), kPlenty).has_value());  // nobody is told
  CHECK(to_tell(queue, kStart).empty());
  REQUIRE(queue.complete(lease_of(lease_one(queue)), finish()).has_value());
  REQUIRE(queue.complete(lease_of(lease_one(queue)), finish()).has_value());

  WorkQueue& again = reopen();
  CHECK(again.deliveries().next_due().value() == kStart + 1s);
  const auto first = to_tell(again, kStart + 1s);
  REQUIRE(told(first) == "a");
  CHECK(first[0].destination == "https://yes.example/x");
  CHECK(first[0].depth == 2);
  CHECK(first[0].end == WorkState::Done);
  CHECK(first[0].item_attempts == 1);
  CHECK(first[0].ended == kStart + 1s);
  CHECK(to_tell(again, kStart + 1h).empty());  // it is being sent
  const Deliveries::Finish later{
      .state = DeliveryState::Waiting, .attempts = 1, .when = kStart + 1min, .error = "500"};
  REQUIRE(again.deliveries().finish(first[0].key, later).has_value());
  CHECK(again.deliveries().finish(first[0].key, later).error().reason == reason::kConflict);
  CHECK(to_tell(again, kStart + 1min - 1ns).empty());
  CHECK(again.deliveries().unsettled().value() == 1);
  CHECK(again.enqueue(spec("full"), 1).error().reason ==
        reason::kQueueFull);  // "a" is not told yet
  CHECK(told(to_tell(again, kStart + 1min)) == "a");
  REQUIRE(reopen().deliveries().recover(kStart + 2min).has_value());  // the process has died

  WorkQueue& last = reopen();
  const WallTime gone = kStart + 1s + 24h;
  CHECK(last.sweep(gone, 10)->unreferenced.size() == 2);  // of b
  CHECK_FALSE(found(last, "a").cleared);
  REQUIRE(told(to_tell(last, kStart + 2min)) == "a");
  const Deliveries::Finish done{
      .state = DeliveryState::Delivered, .attempts = 2, .when = kStart + 3min, .error = ""};
  REQUIRE(last.deliveries().finish(first[0].key, done).has_value());
  CHECK(last.deliveries().of("a").value().at(0).settled == kStart + 3min);
  REQUIRE(last.deliveries().again("a", kStart + 4min).has_value());
  CHECK(last.deliveries().again("a", kStart + 4min).error().reason == reason::kConflict);
  CHECK(last.deliveries().again("b", kStart).error().reason == reason::kNotFound);
  const auto repeated = to_tell(last, kStart + 4min);
  REQUIRE(told(repeated) == "a");
  CHECK(repeated[0].attempts == 0);

  // Accepted as another item, it is delivered, and only then.
  WorkSpec child = spec("c", "no");
  child.told_by = repeated[0].key;
  REQUIRE(last.enqueue(child, kPlenty).has_value());
  child.id = "d";
  CHECK(last.enqueue(child, kPlenty).error().reason == reason::kConflict);
  CHECK_FALSE(last.find("d").value().has_value());
  CHECK(last.deliveries().of("a").value().at(0).state == DeliveryState::Delivered);
  CHECK(last.deliveries().unsettled().value() == 0);
  CHECK(last.sweep(gone, 10)->unreferenced.size() == 2);
  CHECK(last.deliveries().again("a", gone).error().reason == reason::kConflict);
  REQUIRE(last.sweep(gone + WorkQueue::kRemembered, 10).has_value());
  CHECK(last.deliveries().of("a").value().empty());

  // Whatever else ends an item is told to the other one, and each of its ends.
  REQUIRE(last.cancel("c", kStart).has_value());
  for (const char* id : {"e", "f", "g"}) REQUIRE(last.enqueue(telling(id), kPlenty).has_value());
  REQUIRE(last.bury(lease_of(lease_one(last)), failure(kStart, "x")).has_value());
  REQUIRE(last.redrive("e", kStart, kStart + 1h).has_value());
  REQUIRE(last.cancel("e", kStart + 1s).has_value());
  REQUIRE(last.cancel("f", kStart + 2s).has_value());
  REQUIRE(last.sweep(kStart + 1h, 10)->changed > 0);
  CHECK(told(to_tell(last, kStart + 1h)) == "eef");
  const auto expired = last.deliveries().of("g").value();
  REQUIRE(expired.size() == 1);
  CHECK(expired[0].end == WorkState::Expired);
  CHECK(expired[0].destination == "function:no");
  CHECK(last.deliveries().of("e").value().at(0).reason == "x");
}

void check_delivery_turns(const ReopenQueue& reopen) {
  WorkQueue& queue = reopen();
  for (const char* id : {"a", "b", "c", "d"})
    REQUIRE(queue.enqueue(telling(id, "busy"), kPlenty).has_value());
  REQUIRE(queue.enqueue(telling("e", "calm/f"), kPlenty).has_value());
  for (const char* id : {"a", "b", "c", "d", "e"}) REQUIRE(queue.cancel(id, kStart).has_value());
  WorkSpec elsewhere = telling("f", "busy");
  elsewhere.notices.failure = "https://other.example/";
  REQUIRE(queue.enqueue(elsewhere, kPlenty).has_value());
  REQUIRE(queue.cancel("f", kStart + 1s).has_value());
  CHECK(told(to_tell(queue, kStart + 1s, 2)) == "eabf");  // "function:no" is one host a project
  CHECK(to_tell(queue, kStart + 1s, 10).empty());         // three of a project at most
}

}  // namespace mayfly
