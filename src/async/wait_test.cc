// Futures, cancellation, gates and pools: each is also destroyed while somebody waits for it.
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "async/cancel.h"
#include "async/event.h"
#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

Task<void> await_into(Future<int>& future, std::vector<int>& log) {
  Result<int> value = co_await future;
  log.push_back(value ? *value : -static_cast<int>(value.error().code));
}

Task<void> close_gate(Gate& gate, int& closed) {
  co_await gate.close();
  ++closed;
}

Task<int> run_in(Pool& pool, int value) {
  co_return co_await pool.run([value] { return value * 2; });
}

Task<void> run_blocking(Pool& pool, std::atomic<bool>& started, std::atomic<bool>& release,
                        int& finished) {
  co_await pool.run([&] {
    started = true;
    started.notify_all();
    release.wait(false);
  });
  ++finished;
}

Task<int> sum_in(Pool& pool, int n) {
  int sum = 0;
  for (int i = 0; i < n; ++i) sum += co_await pool.run([i] { return i; });
  co_return sum;
}

}  // namespace

TEST_CASE("a future yields what its promise sets, before or after the wait begins") {
  Loop loop;
  std::vector<int> log;
  Future<int> early(loop);
  early.promise().set(1);
  loop.spawn(await_into(early, log));
  CHECK(log == std::vector{1});

  Future<int> late(loop);
  Promise<int> promise = late.promise();
  loop.spawn(await_into(late, log));
  promise.set(2);
  CHECK(log == std::vector{1});  // resumed by the loop, not by set()
  CHECK_FALSE(promise.wanted());
  loop.poll();
  CHECK(log == std::vector{1, 2});
}

TEST_CASE("a dropped promise and a cancelled future end the wait with an error, once") {
  Loop loop;
  std::vector<int> log;
  Future<int> dropped(loop);
  {
    const Promise<int> promise = dropped.promise();
    loop.spawn(await_into(dropped, log));
  }
  loop.poll();
  CHECK(log == std::vector{-static_cast<int>(Code::Cancelled)});

  Future<int> cancelled(loop);
  Promise<int> promise = cancelled.promise();
  loop.spawn(await_into(cancelled, log));
  cancelled.cancel(Error{.code = Code::DeadlineExceeded, .message = "too late"});
  promise.set(3);  // ignored
  loop.poll();
  CHECK(log.size() == 2);
  CHECK(log[1] == -static_cast<int>(Code::DeadlineExceeded));
}

TEST_CASE("a promise can be moved, and may outlive its future") {
  Loop loop;
  Promise<int> kept;
  {
    Future<int> future(loop);
    Promise<int> promise = future.promise();
    kept = std::move(promise);
    CHECK(kept.wanted());
  }
  CHECK_FALSE(kept.wanted());
  kept.set(1);
}

TEST_CASE("a waiter destroyed between set and resumption is not resumed") {
  std::vector<int> log;
  std::optional<Future<int>> future;
  Promise<int> promise;
  {
    Loop loop;
    future.emplace(loop);
    promise = future->promise();
    loop.spawn(await_into(*future, log));
    promise.set(1);
  }
  CHECK(log.empty());
}

TEST_CASE("a promise for nothing and a promise for a Result") {
  Loop loop;
  Future<void> done(loop);
  done.promise().set();
  CHECK(done.ready());
  Future<Result<int>> result(loop);
  result.promise().set(fail(Code::NotFound, "none"));
  CHECK(result.ready());
}

TEST_CASE("cancellation calls each callback once, in order, and not the destroyed ones") {
  CancelSource source;
  std::string log;
  CancelCallback first(source.token(), [&] { log += 'a'; });
  std::optional<CancelCallback> third;
  CancelCallback second(source.token(), [&] {
    log += 'b';
    third.reset();
  });
  third.emplace(source.token(), [&] { log += 'c'; });
  CHECK_FALSE(source.token().cancelled());
  source.cancel();
  source.cancel();
  CHECK(log == "ab");
  CancelCallback late(source.token(), [&] { log += 'd'; });
  CHECK(log == "abd");
  CHECK_FALSE(CancelToken().cancelled());
}

TEST_CASE("a cancel callback may destroy itself and outlive its source") {
  std::optional<CancelCallback> callback;
  bool called = false;
  {
    CancelSource source;
    callback.emplace(source.token(), [&] {
      called = true;
      callback.reset();
    });
    source.cancel();
    CHECK(called);
    callback.emplace(CancelSource().token(), [] {});
  }
  callback.reset();
}

TEST_CASE("a gate refuses new work when closed and waits for the old") {
  Loop loop;
  Gate gate(loop);
  int closed = 0;
  std::optional<Gate::Hold> hold = gate.hold();
  REQUIRE(hold);
  loop.spawn(close_gate(gate, closed));
  loop.spawn(close_gate(gate, closed));
  CHECK_FALSE(gate.hold());
  loop.poll();
  CHECK(closed == 0);
  hold.reset();
  loop.poll();
  CHECK(closed == 2);
  loop.spawn(close_gate(gate, closed));  // an empty gate closes at once
  CHECK(closed == 3);
}

TEST_CASE("a wait for a gate may be given up") {
  auto loop = std::make_unique<Loop>();
  Gate gate(*loop);
  int closed = 0;
  std::optional<Gate::Hold> hold = gate.hold();
  loop->spawn(close_gate(gate, closed));
  loop.reset();
  hold.reset();
  CHECK(closed == 0);
}

TEST_CASE("pool work runs elsewhere and its value comes back to the loop thread") {
  Loop loop;
  Pool pool(loop, "test", 2);
  CHECK(loop.run(run_in(pool, 21)) == 42);
  CHECK(loop.run(sum_in(pool, 1000)) == 499'500);
}

TEST_CASE("queued pool work is dropped and running work is waited for when the waiter dies") {
  std::atomic<bool> started = false;
  std::atomic<bool> release = false;
  std::atomic<bool> second_started = false;
  int finished = 0;
  Loop loop;
  Pool pool(loop, "test", 1);
  std::jthread releaser([&] {
    started.wait(false);
    release = true;
    release.notify_all();
  });
  {
    Loop dying;  // owns the waiting tasks, and destroys them in this order
    dying.spawn(run_blocking(pool, started, release, finished));
    dying.spawn(run_blocking(pool, second_started, release, finished));
    started.wait(false);
  }
  loop.poll();
  CHECK(started);
  CHECK(finished == 0);
}

}  // namespace mayfly
