#include "events/delivery_engine.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "async/event.h"
#include "async/sleep.h"
#include "base/file.h"
#include "store/sqlite_work_queue.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

// A queue, and engines on it, one after the other: each is what a server that has begun again is.
class DeliveryRig {
 public:
  DeliveryRig() { restart(); }
  ~DeliveryRig() { stop(); }

  void stop() {
    for (auto& [id, promise] : hanging) promise->set();
    hanging.clear();
    if (engine) loop.run(engine->close());
    engine.reset();
  }
  // A node that ends and starts again: what it was telling is cut off.
  void restart() {
    stop();
    queue = SqliteWorkQueue::open(folder_.path() / "events.db").value();
    engine = std::make_unique<DeliveryEngine>(
        DeliveryEngine::Parts{.loop = loop,
                              .deliveries = queue->deliveries(),
                              .pool = pool,
                              .rng = rng,
                              .metrics = metrics,
                              .tell = [this](Delivery d) { return tell(std::move(d)); }},
        DeliveryEngine::Options{
            .concurrency = 3,
            .per_project = 2,
            .per_host = 1,
            .patience = {.attempts = 3, .retries = {.first = 1ns, .longest = 1ns}}});
    REQUIRE(engine->recover().has_value());
    engine->start();
  }

  Task<Telling> tell(Delivery delivery) {
    told.push_back(delivery.key.item);
    if (hangs.contains(delivery.key.item)) {
      Future<void> answered(loop);
      hanging[delivery.key.item] = std::make_shared<Promise<void>>(answered.promise());
      (void)co_await answered;
      co_return Telling{.told = Told::CutOff, .error = ""};
    }
    const auto answer = answers.find(delivery.key.item);
    co_return answer == answers.end() ? Telling{.told = Told::Delivered, .error = ""}
                                      : answer->second;
  }

  // An event that is done, in a project, telling a host.
  void end(const std::string& id, const std::string& project, const std::string& host) {
    WorkSpec spec{.id = id,
                  .lane = project + "/f",
                  .key = "",
                  .detail = "{}",
                  .payload = sha256(id),
                  .accepted = clock.wall_now(),
                  .expires = clock.wall_now() + 1h,
                  .max_attempts = 1,
                  .keep = 1h};
    spec.notices = {.success = "", .failure = "https://" + host + "/", .depth = 0};
    REQUIRE(queue->enqueue(spec, 1000).has_value());
    REQUIRE(queue->cancel(id, clock.wall_now()).has_value());
    engine->look();
  }
  Delivery of(const std::string& id) { return loop.run(engine->of(id)).value().at(0); }
  void until(const std::function<bool()>& so) {
    while (!so()) {
      loop.poll();
      loop.run(pause());
    }
  }
  Task<void> pause() { (void)co_await sleep_for(loop, 1ms); }
  void until_over(const std::string& id) {
    until([&] { return of(id).settled != WallTime(); });
  }
  std::ptrdiff_t times(const std::string& id) const { return std::ranges::count(told, id); }

  TempDir folder_ = TempDir::create().value();
  Loop loop;
  Pool pool{loop, "events", 1};
  SystemClock clock;
  SystemRng rng;
  EventMetrics metrics;
  std::unique_ptr<SqliteWorkQueue> queue;
  std::vector<std::string> told;
  std::map<std::string, Telling> answers;
  std::set<std::string> hangs;
  std::map<std::string, std::shared_ptr<Promise<void>>> hanging;
  std::unique_ptr<DeliveryEngine> engine;
};

}  // namespace

TEST_CASE("an end is told, and then over") {
  DeliveryRig rig;
  rig.end("a", "team", "one.example");
  rig.until_over("a");
  CHECK(rig.of("a").state == DeliveryState::Delivered);
  CHECK(rig.of("a").attempts == 1);
  CHECK(rig.times("a") == 1);
  CHECK(
      rig.metrics.expose({}).contains(R"(mayfly_delivery_attempts_total{outcome="delivered"} 1)"));
}

TEST_CASE("what cannot be told is tried again and then given up, until somebody asks for more") {
  DeliveryRig rig;
  rig.answers["a"] = {.told = Told::Failed, .error = "500"};
  rig.answers["b"] = {.told = Told::Refused, .error = "410"};
  rig.end("a", "team", "one.example");
  rig.end("b", "team", "one.example");
  rig.until_over("a");
  rig.until_over("b");
  CHECK(rig.of("a").state == DeliveryState::GivenUp);
  CHECK(rig.of("a").error == "500");
  CHECK(rig.times("a") == 3);
  CHECK(rig.times("b") == 1);
  rig.answers.clear();
  REQUIRE(rig.loop.run(rig.engine->again("a")).has_value());
  rig.until_over("a");
  CHECK(rig.of("a").state == DeliveryState::Delivered);
  CHECK(rig.of("a").attempts == 1);
}

TEST_CASE("who hangs holds up neither another host nor another project") {
  DeliveryRig rig;
  rig.hangs = {"a", "b"};
  rig.end("a", "team", "slow.example");
  rig.end("b", "team", "slower.example");
  rig.until([&] { return rig.hanging.size() == 2; });
  rig.end("c", "team", "slow.example");
  rig.end("d", "team", "fast.example");  // no place of its project is free
  rig.end("e", "other", "slow.example");
  rig.end("f", "other", "fast.example");
  rig.until_over("f");
  CHECK(rig.times("c") + rig.times("d") + rig.times("e") == 0);
  rig.hangs.clear();
  rig.hanging.at("b")->set();
  rig.until_over("b");
  rig.until_over("d");
  CHECK(rig.times("c") + rig.times("e") == 0);  // slow.example hangs yet
  rig.hanging.at("a")->set();
  rig.hanging.clear();
  for (const char* id : {"a", "c", "e"}) rig.until_over(id);
}

TEST_CASE("what a node was telling when it ended is told by the next one, and nothing counts") {
  DeliveryRig rig;
  rig.hangs = {"a"};
  rig.end("a", "team", "slow.example");
  rig.until([&] { return rig.hanging.size() == 1; });
  rig.hangs.clear();
  rig.restart();
  rig.until_over("a");
  CHECK(rig.of("a").attempts == 1);
  CHECK(rig.times("a") == 2);
}
