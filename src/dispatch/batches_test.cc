// Requests that run as one: when they do, and that none of them suffers for it.
#include <csignal>
#include <memory>
#include <vector>

#include "core/reason.h"
#include "dispatch/batch_tuner.h"
#include "dispatch/dispatcher.h"
#include "dispatch/policy.h"
#include "dispatch/testing/test_node.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kRun = 1ms;

using Calls = std::vector<std::shared_ptr<Pending>>;

Batching up_to(std::uint32_t rows) {
  return {.mode = BatchMode::Fixed, .max_rows = rows, .preferred = {}};
}

// A function that batches, with an idle instance.
struct BatchNode : TestNode {
  explicit BatchNode(Batching batching, std::uint32_t cores = 1)
      : TestNode({.cores = cores, .memory = mib(1000)}) {
    VersionRuntime version = runtime(1);
    version.batching = std::move(batching);
    model = share(std::move(version));
    script().run = kRun;
    const auto first = predict(model);
    advance(kRun);
    REQUIRE(first->ok());
  }
  Script& script() { return spawner.script("f1@1"); }
  FakeInstance& instance(std::size_t index = 0) { return *spawner.instances().at(index); }
  // `rows` rows of `width` numbers.
  Call of_rows(std::int64_t rows = 1, std::int64_t width = 1, Duration timeout = 30s) {
    const auto bytes = static_cast<std::uint64_t>(rows * width) * sizeof(float);
    InputPlan input{.index = 0, .type = DataType::Fp32, .shape = {rows, width}, .bytes = bytes};
    return call_of(model, *RequestMemory::allocate(*RequestLayout::plan({input}, {}), 0), timeout);
  }
  Calls calls(std::size_t count) {  // of one turn
    Calls made;
    for (std::size_t i = 0; i < count; ++i) made.push_back(ask(of_rows()));
    loop.poll();
    return made;
  }
  // The instance runs one request, and these wait.
  Calls waiting(std::size_t count) {
    busy = ask(of_rows());
    loop.poll();
    return calls(count);
  }
  std::shared_ptr<const VersionRuntime> model;
  std::shared_ptr<Pending> busy;
};

std::size_t done(const Calls& calls) {
  return static_cast<std::size_t>(
      std::ranges::count_if(calls, [](const auto& c) { return c->done(); }));
}
std::size_t ok(const Calls& calls) {
  return static_cast<std::size_t>(
      std::ranges::count_if(calls, [](const auto& c) { return c->ok(); }));
}

}  // namespace

TEST_CASE("what waits while the instance runs goes to it together") {
  BatchNode node(up_to(32));
  const Calls calls = node.waiting(8);
  node.advance(kRun);
  REQUIRE(node.busy->ok());
  CHECK(node.instance().burst() == 1);  // one request, for all eight
  node.advance(kRun);
  CHECK(ok(calls) == 8);
  std::size_t leaders = 0;
  Duration run{};
  for (const auto& call : calls) {
    CHECK(call->outcome->batch == 8);
    leaders += call->outcome->leads ? 1 : 0;
    run += call->outcome->timing.run;
  }
  CHECK(leaders == 1);
  CHECK(run == kRun);  // they share what it took
  CHECK(node.dispatcher.status().node.tokens_used == 0);
}

TEST_CASE("requests of one turn need nobody to wait for them") {
  BatchNode node(up_to(32));
  const Calls calls = node.calls(5);
  CHECK(node.instance().burst() == 1);
  node.advance(kRun);
  CHECK(ok(calls) == 5);
}

TEST_CASE("a batch has no more rows than it may, and none of another shape") {
  BatchNode node(up_to(4));
  node.busy = node.ask(node.of_rows());
  node.loop.poll();
  Calls calls;
  calls.push_back(node.ask(node.of_rows(3)));
  calls.push_back(node.ask(node.of_rows(1, 2)));  // wider
  calls.push_back(node.ask(node.of_rows(2)));     // too many
  calls.push_back(node.ask(node.of_rows(1)));
  calls.push_back(node.ask(node.of_rows(9)));  // alone, as it came
  node.loop.poll();
  node.advance(kRun);
  node.advance(kRun);
  CHECK(calls[0]->outcome->batch == 2);
  CHECK(calls[3]->outcome->batch == 2);
  CHECK(done(calls) == 2);
  node.advance(kRun);
  node.advance(kRun);
  node.advance(kRun);
  CHECK(ok(calls) == 5);
  CHECK(calls[1]->outcome->batch == 1);
  CHECK(calls[4]->outcome->batch == 1);
}

TEST_CASE("a member whose deadline passes leaves, and the others get their answers") {
  BatchNode node(up_to(8));
  node.busy = node.ask(node.of_rows());
  node.loop.poll();
  Calls calls;
  calls.push_back(node.ask(node.of_rows()));
  calls.push_back(node.ask(node.of_rows(1, 1, kRun + 500us)));
  calls.push_back(node.ask(node.of_rows()));
  node.loop.poll();
  node.advance(kRun);
  node.advance(500us);
  CHECK(calls[1]->reason() == reason::kDeadlineExceeded);
  CHECK_FALSE(node.instance().killed());
  node.advance(kRun);
  CHECK(calls[0]->ok());
  CHECK(calls[2]->ok());
}

TEST_CASE("a batch that nobody waits for any more is ended") {
  BatchNode node(up_to(8));
  node.script().fate = Fate::Hangs;
  const Calls calls = node.calls(3);
  for (const auto& call : calls) call->client.cancel();
  node.loop.poll();
  CHECK(done(calls) == 3);
  node.run_for(1ms);
  CHECK(node.spawner.instances().empty());
  node.script().fate = Fate::Replies;
  const auto next = node.ask(node.of_rows());
  node.run_for(10ms);
  CHECK(next->ok());
}

TEST_CASE("who leaves before the batch is handed over is not in it") {
  BatchNode node(up_to(8));
  Calls calls = {node.ask(node.of_rows()), node.ask(node.of_rows())};
  calls[0]->client.cancel();
  node.loop.poll();
  node.advance(kRun);
  CHECK(calls[0]->reason() == reason::kClientGone);
  REQUIRE(calls[1]->ok());
  CHECK(calls[1]->outcome->batch == 1);
  const auto lone = node.ask(node.of_rows());
  lone->client.cancel();
  node.loop.poll();
  CHECK_FALSE(node.instance().killed());  // it was given nothing
  CHECK(node.dispatcher.status().node.tokens_used == 0);
  const auto next = node.predict(node.model);
  node.advance(kRun);
  CHECK(next->ok());
}

TEST_CASE("after a crash the members run one by one, and only the guilty one fails") {
  BatchNode node(up_to(8));
  node.script().fate = Fate::Hangs;
  const Calls calls = node.calls(3);
  REQUIRE(node.instance().burst() == 1);
  node.instance().exit({.signal = SIGSEGV});
  node.run_for(10ms);
  CHECK(done(calls) == 0);
  REQUIRE(node.spawner.instances().size() == 1);
  node.instance().reply();  // the first, alone
  node.run_for(10ms);
  CHECK(calls[0]->ok());
  CHECK(calls[0]->outcome->batch == 1);
  CHECK(done(calls) == 1);
  node.instance().exit({.signal = SIGSEGV});
  node.run_for(10ms);
  CHECK(calls[1]->reason() == reason::kInstanceCrashed);
  node.instance().reply();
  node.run_for(10ms);
  CHECK(calls[2]->ok());
  for (const auto& call : calls) {
    CHECK(call->outcome->timing.start >= 0s);
    CHECK(call->outcome->timing.queue >= 0s);
    CHECK(call->outcome->timing.queue < 1s);
  }
}

TEST_CASE("what a model says of a batch is asked of each member again") {
  BatchNode node(up_to(8));
  node.script().fate = Fate::Hangs;
  const Calls calls = node.calls(2);
  node.instance().reply(refuse(reason::kModelError, "index out of range"));
  node.loop.poll();
  CHECK(done(calls) == 0);
  node.instance().reply();
  node.loop.poll();
  CHECK(calls[0]->ok());
  node.instance().reply(refuse(reason::kModelError, "index out of range"));
  node.loop.poll();
  CHECK(calls[1]->reason() == reason::kModelError);
}

TEST_CASE("a version whose replies cannot be cut apart is not batched again") {
  BatchNode node(up_to(8));
  node.script().fate = Fate::Hangs;
  const Calls calls = node.calls(2);
  const std::vector<std::byte> one_row(4);
  node.instance().reply(Reply{.outputs = {{0, DataType::Fp32, {1}, one_row}}, .memory = nullptr});
  node.loop.poll();
  node.script().fate = Fate::Replies;
  node.instance().reply();
  node.run_for(10ms);
  CHECK(ok(calls) == 2);
  const Calls more = node.calls(3);
  node.run_for(10ms);
  CHECK(ok(more) == 3);
  for (const auto& call : more) CHECK(call->outcome->batch == 1);
}

TEST_CASE("with max_delay a batch waits for others, but not once it is full") {
  Batching patient = up_to(3);
  patient.max_delay = 10ms;
  BatchNode node(patient);
  const Calls two = node.calls(2);
  CHECK_FALSE(node.instance().busy());
  node.advance(9ms);
  CHECK_FALSE(node.instance().busy());
  node.advance(1ms);
  CHECK(node.instance().busy());
  node.advance(kRun);
  CHECK(ok(two) == 2);
  CHECK(two[0]->outcome->batch == 2);
  const Calls three = node.calls(3);
  CHECK(node.instance().busy());
  node.advance(kRun);
  CHECK(ok(three) == 3);
}

TEST_CASE("a batch does not wait past a member's deadline") {
  Batching patient = up_to(8);
  patient.max_delay = 1s;
  BatchNode node(patient);
  const auto urgent = node.ask(node.of_rows(1, 1, 20ms));
  node.run_for(25ms);
  CHECK(urgent->ok());
}

TEST_CASE("a batch takes no more rows than its members have time for") {
  BatchNode node(up_to(32));
  node.script().run = 8ms;  // of eight rows: a row takes one
  CHECK(ok(node.waiting(8)) == 0);
  node.run_for(30ms);
  REQUIRE(node.version("f1@1")->batching->sizes.back().rows == 8);
  node.busy = node.ask(node.of_rows());
  node.loop.poll();
  Calls calls;
  calls.push_back(node.ask(node.of_rows(1, 1, 8ms + 6ms)));
  for (int i = 0; i < 15; ++i) calls.push_back(node.ask(node.of_rows()));
  node.loop.poll();
  node.script().run = 4ms;
  node.run_for(13ms);
  REQUIRE(calls.front()->ok());
  CHECK(calls.front()->outcome->batch == 4);  // five would be reckoned 6.25 ms
  node.run_for(100ms);
  CHECK(ok(calls) == calls.size());
}

TEST_CASE("automatic batching shrinks where nobody waits for a batch any more") {
  BatchNode node({.mode = BatchMode::Auto, .max_rows = kLargestBatch, .preferred = {}});
  Calls calls;
  for (int turn = 0; turn < 400; ++turn) {  // under load until it batches
    for (int i = 0; i < 8; ++i) calls.push_back(node.ask(node.of_rows()));
    node.run_for(10 * kRun);
  }
  const std::uint32_t cap = node.version("f1@1")->batching->cap;
  REQUIRE(cap > 2);
  node.script().run = 1h;
  for (int i = 0; i < 8; ++i) calls.push_back(node.ask(node.of_rows(1, 1, 1s)));
  node.run_for(2s);
  CHECK(node.version("f1@1")->batching->cap < cap);
}

TEST_CASE("automatic batching never waits while an instance is idle") {
  BatchNode node({.mode = BatchMode::Auto, .max_rows = kLargestBatch, .preferred = {}});
  Calls calls;
  for (int turn = 0; turn < 400; ++turn) {  // under load until it batches
    for (int i = 0; i < 8; ++i) calls.push_back(node.ask(node.of_rows()));
    node.run_for(10 * kRun);
  }
  REQUIRE(node.version("f1@1")->batching->cap > 1);
  node.run_for(100ms);
  const auto lone = node.ask(node.of_rows());
  node.loop.poll();
  CHECK(node.instance().busy());
  node.advance(kRun);
  CHECK(lone->ok());
}

TEST_CASE("with max_delay nobody waits for a process to start, nor without a place in the queue") {
  Batching patient = up_to(8);
  patient.max_delay = 10s;
  BatchNode node(patient);
  node.dispatcher.evict(node.model->key);
  node.run_for(5ms);
  const auto cold = node.ask(node.of_rows(1, 1, 5s));
  node.run_for(50ms);
  CHECK(cold->ok());
  node.settings.queue_limit = 0;
  node.settings_sequence = 2;
  const auto placeless = node.ask(node.of_rows());
  node.run_for(5ms);
  CHECK(placeless->ok());
}

TEST_CASE("an instance that dies before its batch is handed over harms nobody") {
  BatchNode node(up_to(8));
  const Calls calls = {node.ask(node.of_rows()), node.ask(node.of_rows())};
  node.instance().exit({.signal = SIGKILL});
  node.run_for(20ms);
  REQUIRE(ok(calls) == 2);
  CHECK(calls[0]->outcome->timing.queue >= 0s);
  CHECK(calls[0]->outcome->timing.start < 1s);
}

TEST_CASE("who left a batch is not paid for by whoever comes next") {
  BatchNode node(up_to(8));
  Calls calls = {node.ask(node.of_rows()), node.ask(node.of_rows())};
  node.loop.poll();
  calls[0]->client.cancel();
  node.loop.poll();
  node.advance(kRun);
  REQUIRE(calls[1]->ok());
  CHECK(calls[1]->outcome->timing.cpu == kRun / 2);
  const auto next = node.predict(node.model);
  node.advance(kRun);
  REQUIRE(next->ok());
  CHECK(next->outcome->timing.cpu == kRun);
}

TEST_CASE("a drain ends batches that gather or run, and answers their members") {
  BatchNode node(up_to(8), 2);
  node.script().fate = Fate::Hangs;
  const Calls run = node.calls(2);
  const Calls gather = {node.ask(node.of_rows()), node.ask(node.of_rows())};
  node.drain(1ms);
  node.run_for(100ms);
  CHECK(done(run) == 2);
  CHECK(done(gather) == 2);
}

TEST_CASE("the most urgent request goes first") {
  TestNode node({.cores = 1, .memory = mib(1000)});
  const auto model = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").run = kRun;
  const auto with = [&](std::uint32_t priority) {
    Call call = node.call_of(model, *RequestMemory::allocate(*RequestLayout::plan({}, {}), 0));
    call.priority = priority;
    return node.ask(std::move(call));
  };
  const auto running = with(kUsualPriority);
  const Calls calls = {with(kLastPriority), with(kUsualPriority), with(1), with(1)};
  node.run_for(20ms);
  REQUIRE(ok(calls) == 4);
  CHECK(calls[2]->ended < calls[3]->ended);
  CHECK(calls[3]->ended < calls[1]->ended);
  CHECK(calls[1]->ended < calls[0]->ended);
}

TEST_CASE("when a batch is let go") {
  const TimePoint start{1h};
  const std::vector<std::uint32_t> preferred = {4, 8};
  BatchView view{.waiting = 3,
                 .cap = 16,
                 .oldest = start,
                 .max_delay = 10ms,
                 .deadline = start + 1s,
                 .expected = 2ms};
  CHECK(batch_release(view) == start + 10ms);
  view.deadline = start + 5ms;
  CHECK(batch_release(view) == start + 1ms);
  view.waiting = 16;
  CHECK(batch_release(view) == TimePoint::min());
  view.preferred = preferred;
  view.waiting = 4;
  CHECK(batch_release(view) == TimePoint::min());
}

TEST_CASE("how many rows a batch takes") {
  const std::vector<std::uint32_t> preferred = {4, 8};
  CHECK(batch_rows({.waiting = 20, .cap = 16}) == 16);
  CHECK(batch_rows({.waiting = 7, .cap = 16, .preferred = preferred}) == 4);
  CHECK(batch_rows({.waiting = 30, .cap = 16, .preferred = preferred}) == 8);
  CHECK(batch_rows({.waiting = 3, .cap = 16, .preferred = preferred}) == 3);
  // What two can share is shared, where it is worth waking the second.
  CHECK(batch_rows({.waiting = 9, .cap = 16, .instances = 2, .expected = 1ms}) == 5);
  CHECK(batch_rows({.waiting = 9, .cap = 16, .instances = 2, .expected = 60us}) == 9);
  CHECK(batch_rows({.waiting = 9, .cap = 16, .instances = 2}) == 9);
}

namespace {

// A closed loop of `clients` on one instance: what its cap comes to.
std::uint32_t learned(Duration fixed, Duration row, Duration alone, Duration target,
                      std::uint32_t clients = 64) {
  Batching batching{.mode = BatchMode::Auto, .max_rows = kLargestBatch, .preferred = {}};
  batching.target = target;
  BatchTuner tuner(batching);
  for (int i = 0; i < 5000; ++i) {
    if (tuner.cap() == 1) {
      tuner.ran_alone(alone, BatchTuner::Load::Heavy);
      continue;
    }
    const std::uint32_t rows = std::min(tuner.cap(), clients);
    tuner.ran(rows, fixed + row * rows,
              rows < clients ? BatchTuner::Load::Heavy : BatchTuner::Load::Light);
  }
  return tuner.cap();
}

}  // namespace

TEST_CASE("auto grows where rows get cheaper, stays off where they do not, and heeds the target") {
  CHECK(learned(10ms, 100us, 10ms, 1s) >= 60);  // bound by weights: all that wait
  CHECK(learned(0us, 5us, 5us, 1s) <= 2);       // a batch saves nothing
  const std::uint32_t bound = learned(1ms, 1ms, 2ms, 20ms);
  CHECK(bound >= 10);
  CHECK(bound <= 21);                           // 20 rows take 21 ms
  CHECK(learned(10ms, 100us, 10ms, 5ms) == 1);  // one alone takes longer than it may
}

TEST_CASE("a size that breaks is left") {
  Batching batching{.mode = BatchMode::Auto, .max_rows = kLargestBatch, .preferred = {}};
  BatchTuner tuner(batching);
  for (int i = 0; i < 600; ++i) {
    tuner.ran_alone(10ms, BatchTuner::Load::Heavy);
    if (tuner.cap() > 1) tuner.ran(tuner.cap(), 10ms, BatchTuner::Load::Heavy);
  }
  const std::uint32_t before = tuner.cap();
  REQUIRE(before > 20);
  tuner.failed(before);
  CHECK(tuner.cap() <= before / 2);
  for (int i = 0; i < 100; ++i) tuner.failed(1);
  CHECK(tuner.cap() == 1);
}

}  // namespace mayfly
