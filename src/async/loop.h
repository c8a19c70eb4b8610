// Loop: one thread's event loop over epoll. Every object of async/ and net/ belongs to one Loop and
// is used only on the thread that runs it; post() and stop() alone may be called from other
// threads.
//
// A turn is: wait for events → due timers → ready descriptors → posted functions → resumed
// coroutines → turn ends (TurnEnd). What a turn makes ready runs in the same turn, except posted
// functions and turn ends requested by turn ends, which run in the next one.
//
// Our own loop rather than Asio's, because of what it saves on each prediction: a Watch stays armed
// (an Asio async_wait costs an epoll_ctl each time), a drained socket is not read again only to
// learn that it is empty, and a turn has a definite end, on which the ledger's group commit hangs.
#pragma once

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "async/hook.h"
#include "async/task.h"
#include "base/clock.h"
#include "base/fd.h"

namespace mayfly {

class Loop;
class Timer;
class Watch;

// A function that runs once at the end of the turn in which it was requested: to do once for many
// what each of them would do alone. Destroying it forgets the request; its function must not.
class TurnEnd final : public Hook {
 public:
  TurnEnd(Loop& loop, std::move_only_function<void()> function)  // `loop` outlives me
      : loop_(loop), function_(std::move(function)) {}
  void request();

 private:
  friend class Loop;
  Loop& loop_;
  std::move_only_function<void()> function_;
};

// A suspended coroutine that may be made ready. Its owner is the awaiter; destroying it forgets it.
struct Resumption final : Hook {
  std::coroutine_handle<> handle;
};

class Loop {
 public:
  using Function = std::move_only_function<void()>;

  Loop();
  // `clock` outlives the loop. With a FakeClock use poll(): timers fire as the test advances it.
  explicit Loop(const Clock& clock);
  // Destroys the spawned tasks that still wait.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs turns until stop(). A stop() before run() makes it return at once.
  void run();
  void stop();  // any thread
  // Runs the task to its end and returns its value; nothing else ends it.
  template <typename T>
  T run(Task<T> task);
  // Runs turns, without blocking, until one has found nothing to do.
  void poll();

  void post(Function function);  // any thread; the function runs on the loop thread
  // Starts a task that nobody awaits: runs it up to its first wait before returning. Its
  // collaborators outlive it, which a Gate proves, or die with the loop.
  void spawn(Task<void> task);

  // The time at which this turn began to handle events: free to read, good enough for timeouts.
  TimePoint turn_time() const { return turn_time_; }
  TimePoint now() const { return clock_.now(); }
  const Clock& clock() const { return clock_; }

  // For awaitables: `what` is resumed in this turn, after the callbacks that are running now.
  void make_ready(Resumption& what) { ready_.push_back(what); }

 private:
  friend class Timer;
  friend class TurnEnd;
  friend class Watch;
  struct Events;
  struct Detached;
  struct DetachedFrame;
  enum class Wait : std::uint8_t { Never, UntilEvent };

  bool turn(Wait wait);
  int wait_for_events(Wait wait);
  bool handle_events(int count);
  bool fire_timers();
  bool run_posted();
  bool run_ready();
  bool run_turn_ends();
  void wake();
  std::optional<Duration> wait_limit() const;

  Detached detach(Task<void> task);
  template <typename T>
  static Task<void> store_result(Task<T> task, std::optional<T>& result, bool& done);
  static Task<void> store_done(Task<void> task, bool& done);
  void run_until(const bool& done);

  void timer_schedule(Timer& timer);
  void timer_remove(Timer& timer);
  void timer_up(std::size_t index);
  void timer_down(std::size_t index);
  void timer_place(Timer& timer, std::size_t index);

  void watch_add(Watch& watch);
  void watch_remove(Watch& watch);

  SystemClock system_clock_;
  const Clock& clock_;
  Fd epoll_;
  Fd wakeup_;
  std::unique_ptr<Events> events_;  // the batch being handled
  TimePoint turn_time_;
  HookList<Resumption> ready_;
  HookList<DetachedFrame> spawned_;
  HookList<TurnEnd> turn_ends_;
  std::vector<Timer*> timers_;  // a binary heap by Timer::key_
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> has_posted_ = false;
  std::mutex posted_mutex_;
  std::vector<Function> posted_;  // guarded by posted_mutex_
};

template <typename T>
Task<void> Loop::store_result(Task<T> task, std::optional<T>& result, bool& done) {
  result.emplace(co_await std::move(task));
  done = true;
}

template <typename T>
T Loop::run(Task<T> task) {
  bool done = false;
  if constexpr (std::is_void_v<T>) {
    spawn(store_done(std::move(task), done));
    run_until(done);
  } else {
    std::optional<T> result;
    spawn(store_result(std::move(task), result, done));
    run_until(done);
    return *std::move(result);
  }
}

}  // namespace mayfly
