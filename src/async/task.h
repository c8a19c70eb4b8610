// Task<T>: a lazy coroutine. It starts when it is awaited, resumes its awaiter by symmetric
// transfer (deep chains use no stack), and is destroyed, wherever it waits, when the Task is
// destroyed. That is how work is cancelled: every awaitable of async/ unregisters itself in its
// destructor.
//
// A task belongs to one loop thread. Its parameters are taken by value or outlive it (see
// async/gate.h); ours never throw, and an exception that leaves a task ends the process. Errors are
// Result values. Start one from plain code with Loop::spawn or Loop::run.
#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>

#include "async/frame_memory.h"
#include "base/check.h"

namespace mayfly {

template <typename T>
class Task;

namespace task_detail {

class PromiseBase {
 public:
  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) noexcept {
      return self.promise().continuation_;
    }
    void await_resume() noexcept {}
  };

  std::suspend_always initial_suspend() noexcept { return {}; }
  FinalAwaiter final_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept {
    check_failed("no exception leaves a coroutine", __FILE__, __LINE__);
  }
  void continue_with(std::coroutine_handle<> continuation) { continuation_ = continuation; }

  static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
  static void operator delete(void* frame, std::size_t bytes) noexcept {
    release_frame(frame, bytes);
  }

 private:
  std::coroutine_handle<> continuation_ = std::noop_coroutine();
};

template <typename T>
class Promise final : public PromiseBase {
 public:
  Task<T> get_return_object() noexcept;
  template <typename U>
    requires std::constructible_from<T, U&&>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T take() { return *std::move(value_); }

 private:
  std::optional<T> value_;
};

template <>
class Promise<void> final : public PromiseBase {
 public:
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void take() noexcept {}
};

}  // namespace task_detail

template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = task_detail::Promise<T>;

  Task() = default;
  Task(Task&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      reset();
      frame_ = std::exchange(other.frame_, nullptr);
    }
    return *this;
  }
  ~Task() { reset(); }

  // Awaiting runs the task to its end; the value is moved out. Await once.
  auto operator co_await() && noexcept {
    struct Awaiter {
      Frame frame;
      bool await_ready() noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting) noexcept {
        frame.promise().continue_with(awaiting);
        return frame;
      }
      T await_resume() { return frame.promise().take(); }
    };
    CHECK(frame_ && !frame_.done());
    return Awaiter{frame_};
  }

 private:
  friend promise_type;
  using Frame = std::coroutine_handle<promise_type>;

  explicit Task(Frame frame) : frame_(frame) {}
  void reset() {
    if (frame_) std::exchange(frame_, nullptr).destroy();
  }

  Frame frame_;
};

namespace task_detail {
template <typename T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise>::from_promise(*this));
}
}  // namespace task_detail

}  // namespace mayfly
