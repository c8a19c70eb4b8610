#include "async/loop.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include "async/sleep.h"
#include "async/timer.h"
#include "async/watch.h"
#include "base/testing/fake_clock.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

Task<int> leaf(int value) { co_return value; }

Task<int> sum_to(int n) {
  int sum = 0;
  for (int i = 1; i <= n; ++i) sum += co_await leaf(i);
  co_return sum;
}

Task<int> nested(int depth) {
  if (depth == 0) co_return 0;
  co_return 1 + co_await nested(depth - 1);
}

struct Flag {
  bool& raised;
  ~Flag() { raised = true; }
};

Task<void> sleep_then_log(Loop& loop, Duration delay, std::string& log, char letter) {
  (void)co_await sleep_for(loop, delay);
  log += letter;
}

Task<void> hold_while_sleeping(Loop& loop, bool& destroyed) {
  const Flag flag{destroyed};
  (void)co_await sleep_for(loop, 1h);
}

Task<Status> cancellable_sleep(Loop& loop, CancelToken token) {
  co_return co_await sleep_for(loop, 1h, token);
}

}  // namespace

TEST_CASE("a task does nothing until it is awaited, and destroying it unstarted is fine") {
  bool ran = false;
  auto coroutine = [](bool& flag) -> Task<void> {
    flag = true;
    co_return;
  };
  {
    const Task<void> task = coroutine(ran);
  }
  CHECK_FALSE(ran);
}

TEST_CASE("a long loop and a deep chain of awaits use no stack for the awaiting") {
  Loop loop;
  CHECK(loop.run(sum_to(60'000)) == 30'000 * 60'001);
}

TEST_CASE("nested tasks pass their values up") {
  Loop loop;
  CHECK(loop.run(nested(1000)) == 1000);
}

TEST_CASE("timers fire in the order of their deadlines, exactly when due") {
  FakeClock clock;
  Loop loop(clock);
  std::string log;
  loop.spawn(sleep_then_log(loop, 30ms, log, 'c'));
  loop.spawn(sleep_then_log(loop, 10ms, log, 'a'));
  loop.spawn(sleep_then_log(loop, 20ms, log, 'b'));
  clock.advance(10ms - 1ns);
  loop.poll();
  CHECK(log.empty());
  clock.advance(1ns);
  loop.poll();
  CHECK(log == "a");
  clock.advance(1h);
  loop.poll();
  CHECK(log == "abc");
}

TEST_CASE("a timer can be moved later, earlier and away") {
  FakeClock clock;
  Loop loop(clock);
  int fired = 0;
  Timer timer(loop, [&] { ++fired; });
  timer.arm_in(10ms);
  timer.arm_in(20ms);
  clock.advance(15ms);
  loop.poll();
  CHECK(fired == 0);
  timer.arm_in(1ms);
  clock.advance(1ms);
  loop.poll();
  CHECK(fired == 1);
  CHECK_FALSE(timer.armed());
  timer.arm_in(1ms);
  timer.cancel();
  clock.advance(1h);
  loop.poll();
  CHECK(fired == 1);
}

TEST_CASE("a timer that re-arms itself for now does not starve the loop") {
  FakeClock clock;
  Loop loop(clock);
  int fired = 0;
  Timer* self = nullptr;
  Timer timer(loop, [&] {
    if (++fired < 100) self->arm(loop.now());
  });
  self = &timer;
  timer.arm(loop.now());
  loop.poll();
  CHECK(fired == 100);
}

TEST_CASE("a timer may destroy itself in its callback") {
  FakeClock clock;
  Loop loop(clock);
  std::unique_ptr<Timer> timer;
  timer = std::make_unique<Timer>(loop, [&] { timer.reset(); });
  timer->arm(loop.now());
  loop.poll();
  CHECK(timer == nullptr);
}

TEST_CASE("a thousand timers in random order fire sorted, and removed ones do not") {
  FakeClock clock;
  Loop loop(clock);
  std::vector<int> fired;
  std::vector<std::unique_ptr<Timer>> timers;
  for (int i = 0; i < 1000; ++i) {
    const int when = (i * 7919) % 1000;
    timers.push_back(std::make_unique<Timer>(loop, [&fired, when] { fired.push_back(when); }));
    timers.back()->arm(loop.now() + std::chrono::milliseconds(when));
  }
  for (std::size_t i = 0; i < 1000; i += 3) timers[i].reset();
  clock.advance(1s);
  loop.poll();
  CHECK(fired.size() == 666);
  CHECK(std::ranges::is_sorted(fired));
}

TEST_CASE("posted functions run on the loop thread, in order, from any thread") {
  Loop loop;
  std::vector<int> seen;
  std::jthread poster([&] {
    for (int i = 0; i < 1000; ++i) loop.post([&seen, i] { seen.push_back(i); });
    loop.post([&] { loop.stop(); });
  });
  loop.run();
  CHECK(seen.size() == 1000);
  CHECK(std::ranges::is_sorted(seen));
}

TEST_CASE("stop before run returns at once") {
  Loop loop;
  loop.stop();
  loop.run();
}

TEST_CASE("a turn end runs once however often it is requested, after all the turn made ready") {
  Loop loop;
  std::string log;
  TurnEnd end(loop, [&] { log += 'z'; });
  loop.post([&] {
    end.request();
    end.request();
    loop.spawn(sleep_then_log(loop, 0s, log, 'b'));
    log += 'a';
  });
  loop.post([&] { log += 'c'; });
  loop.poll();
  CHECK(log == "aczb");  // the sleep is due in the next turn
  loop.poll();
  CHECK(log == "aczb");
}

TEST_CASE("a turn end requested by one runs in the next turn") {
  Loop loop;
  int ran = 0;
  TurnEnd again(loop, [&] {
    if (++ran == 1) again.request();
  });
  again.request();
  loop.poll();
  CHECK(ran == 2);
}

TEST_CASE("a turn end that is destroyed does not run") {
  Loop loop;
  bool ran = false;
  {
    TurnEnd gone(loop, [&] { ran = true; });
    gone.request();
  }
  loop.poll();
  CHECK_FALSE(ran);
}

TEST_CASE("destroying the loop destroys the tasks that still wait") {
  bool destroyed = false;
  {
    Loop loop;
    loop.spawn(hold_while_sleeping(loop, destroyed));
    loop.poll();
    CHECK_FALSE(destroyed);
  }
  CHECK(destroyed);
}

TEST_CASE("a sleep ends early when its token is cancelled, also when it was before") {
  Loop loop;
  CancelSource source;
  loop.post([&] { source.cancel(); });
  Status status = loop.run(cancellable_sleep(loop, source.token()));
  REQUIRE_FALSE(status);
  CHECK(status.error().code == Code::Cancelled);
  CHECK_FALSE(loop.run(cancellable_sleep(loop, source.token())));
}

TEST_CASE("a level-triggered watch calls again until the descriptor is drained") {
  Loop loop;
  Pipe pipe = std::move(make_pipe()).value();
  int calls = 0;
  const Watch watch(loop, pipe.read_end.get(), Trigger::Readable, [&](Ready ready) {
    CHECK(ready.readable);
    char c = 0;
    CHECK(::read(pipe.read_end.get(), &c, 1) == 1);
    ++calls;
  });
  CHECK(write_all(pipe.write_end.get(), "abc"));
  loop.poll();
  CHECK(calls == 3);
}

TEST_CASE("an edge-triggered watch calls once per arrival") {
  Loop loop;
  const Fd event(::eventfd(0, EFD_CLOEXEC));
  int calls = 0;
  const Watch watch(loop, event.get(), Trigger::Edge, [&](Ready ready) {
    if (ready.readable) ++calls;
  });
  const std::uint64_t one = 1;
  CHECK(::write(event.get(), &one, sizeof one) == sizeof one);
  loop.poll();
  CHECK(calls == 1);
  CHECK(::write(event.get(), &one, sizeof one) == sizeof one);
  loop.poll();
  CHECK(calls == 2);
}

TEST_CASE("a watch reports a closed peer, and may destroy itself or its neighbour") {
  Loop loop;
  Pipe first = std::move(make_pipe()).value();
  Pipe second = std::move(make_pipe()).value();
  std::vector<std::unique_ptr<Watch>> watches;
  int calls = 0;
  const auto drop_all = [&](Ready ready) {
    CHECK(ready.hangup);
    ++calls;
    watches.clear();  // both were reported in the same batch; the other's event is now stale
  };
  for (const Pipe* pipe : {&first, &second}) {
    watches.push_back(
        std::make_unique<Watch>(loop, pipe->read_end.get(), Trigger::Readable, drop_all));
  }
  first.write_end.reset();
  second.write_end.reset();
  loop.poll();
  CHECK(calls == 1);
}

}  // namespace mayfly
