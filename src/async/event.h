// A value that arrives later, once, on the same loop thread. The waiting side owns the Future;
// whoever will produce the value holds its Promise. Neither allocates.
//
//   Future<Reply> reply(loop);
//   instance.start(std::move(request), reply.promise());
//   Result<Reply> got = co_await reply;
//
// Awaiting yields Result<T> (or T itself when T is a Result). A Promise that is dropped unset
// yields Code::Cancelled; Future::cancel gives up from the waiting side, and a later set() is then
// ignored. The waiter is resumed by the loop, after the code that set the value has returned.
// Either side may be destroyed at any moment.
#pragma once

#include <coroutine>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "async/loop.h"
#include "base/check.h"
#include "base/result.h"

namespace mayfly {

template <typename T>
class Future;

namespace event_detail {
template <typename T>
struct AsResult {
  using type = Result<T>;
};
template <typename T>
struct AsResult<Result<T>> {
  using type = Result<T>;
};
}  // namespace event_detail

// Move-only; bound to its Future.
template <typename T>
class [[nodiscard]] Promise {
 public:
  using Value = typename event_detail::AsResult<T>::type;

  Promise() = default;
  Promise(Promise&& other) noexcept : future_(std::exchange(other.future_, nullptr)) { rebind(); }
  Promise& operator=(Promise&& other) noexcept {
    if (this != &other) {
      drop();
      future_ = std::exchange(other.future_, nullptr);
      rebind();
    }
    return *this;
  }
  ~Promise() { drop(); }

  // The first value counts; without a waiting side the value is dropped.
  void set(Value value) {
    if (Future<T>* future = unbind()) future->resolve(std::move(value));
  }
  void set()
    requires std::is_void_v<T>
  {
    set(Value{});
  }
  // Whether somebody may still want the value.
  bool wanted() const { return future_ != nullptr; }

 private:
  friend class Future<T>;
  explicit Promise(Future<T>& future) : future_(&future) { rebind(); }
  void rebind() {
    if (future_ != nullptr) future_->promise_ = this;
  }
  Future<T>* unbind() {
    Future<T>* future = std::exchange(future_, nullptr);
    if (future != nullptr) future->promise_ = nullptr;
    return future;
  }
  void drop() {
    if (Future<T>* future = unbind()) {
      future->resolve(fail(Code::Cancelled, "the work was abandoned before it had a result"));
    }
  }

  Future<T>* future_ = nullptr;
};

template <typename T>
class Future {
 public:
  using Value = typename event_detail::AsResult<T>::type;

  explicit Future(Loop& loop) : loop_(loop) {}  // `loop` outlives the future
  ~Future() { forget_promise(); }
  Future(const Future&) = delete;
  Future& operator=(const Future&) = delete;

  // Called once, before awaiting.
  Promise<T> promise() {
    CHECK(!promised_);
    promised_ = true;
    return Promise<T>(*this);
  }
  // Resolves it from the waiting side, unless it already has a value.
  void cancel(Error error) {
    forget_promise();
    resolve(std::unexpected(std::move(error)));
  }
  bool ready() const { return value_.has_value(); }

  // Await once.
  auto operator co_await() noexcept {
    struct Awaiter {
      Future& future;
      bool await_ready() const noexcept { return future.ready(); }
      void await_suspend(std::coroutine_handle<> waiter) noexcept {
        future.waiter_.handle = waiter;
      }
      Value await_resume() { return *std::move(future.value_); }
    };
    return Awaiter{*this};
  }

 private:
  friend class Promise<T>;

  void forget_promise() {
    if (promise_ != nullptr) std::exchange(promise_, nullptr)->future_ = nullptr;
  }
  void resolve(Value value) {
    if (value_) return;
    value_.emplace(std::move(value));
    if (waiter_.handle) loop_.make_ready(waiter_);
  }

  Loop& loop_;
  Promise<T>* promise_ = nullptr;
  bool promised_ = false;
  std::optional<Value> value_;
  Resumption waiter_;
};

}  // namespace mayfly
