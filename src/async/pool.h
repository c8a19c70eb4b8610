// Pool: named threads for work that blocks (SQLite, fsync, hashing, big parses).
//
//   Result<Rows> rows = co_await registry_pool.run([&] { return query(db, name); });
//
// The function runs on one of the pool's threads, the coroutine goes on with its value on the loop
// thread. The function may use what the coroutine owns: if the waiting coroutine is destroyed, work
// that has not begun is dropped and work that has is waited for, which blocks the loop for that
// long. Functions do not throw. With one thread, functions run in the order they were asked for.
#pragma once

#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "async/hook.h"
#include "async/loop.h"
#include "async/watch.h"
#include "base/fd.h"

namespace mayfly {

class Pool {
 public:
  // `loop` outlives the pool; the pool outlives what waits for it. The name is what `top -H` shows
  // (15 characters at most).
  Pool(Loop& loop, const std::string& name, std::size_t threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  template <typename Function>
  [[nodiscard]] auto run(Function function) {
    return Run<Function>(*this, std::move(function));
  }

 private:
  enum class State : std::uint8_t { Idle, Queued, Running, Finished };

  // One piece of work, inside the frame of the coroutine that waits for it. Guarded by mutex_, but
  // for what work() touches while Running.
  class Job : public Hook {
   public:
    explicit Job(Pool& pool) : pool_(pool) {}
    virtual void work() = 0;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      resumption.handle = waiter;
      pool_.submit(*this);
    }

    State state = State::Idle;
    Resumption resumption;

   protected:
    ~Job() = default;
    Pool& pool_;
  };

  template <typename Function>
  class Run final : public Job {
   public:
    using Value = std::invoke_result_t<Function&>;
    Run(Pool& pool, Function function) : Job(pool), function_(std::move(function)) {}
    ~Run() { pool_.withdraw(*this); }

    void work() override {
      if constexpr (std::is_void_v<Value>) {
        function_();
      } else {
        value_.emplace(function_());
      }
    }
    Value await_resume() {
      if constexpr (!std::is_void_v<Value>) return *std::move(value_);
    }

   private:
    struct Nothing {};
    Function function_;
    std::optional<std::conditional_t<std::is_void_v<Value>, Nothing, Value>> value_;
  };

  void submit(Job& job);
  void withdraw(Job& job);
  void serve();
  void collect();

  Loop& loop_;
  Fd finished_event_;
  std::mutex mutex_;
  std::condition_variable work_arrived_;
  std::condition_variable work_finished_;
  HookList<Job> queued_;    // guarded by mutex_
  HookList<Job> finished_;  // guarded by mutex_
  bool stopping_ = false;   // guarded by mutex_
  Watch watch_;
  std::vector<std::jthread> threads_;
};

}  // namespace mayfly
