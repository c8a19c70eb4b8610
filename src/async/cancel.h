// Cancellation on one loop thread, with callbacks; the shape of std::stop_source without its
// atomics.
//
//   CancelSource source;
//   CancelCallback stop(source.token(), [&] { instance.kill(); });   // undone when `stop` is
//   destroyed source.cancel();
//
// Callbacks run once, inside cancel(), in the order they were made; each may destroy itself and
// others. A source may die first: its callbacks then never run. A token is a borrow: it does not
// outlive its source.
#pragma once

#include <functional>
#include <utility>

#include "async/hook.h"

namespace mayfly {

class CancelSource;

class CancelToken {
 public:
  CancelToken() = default;  // one that is never cancelled
  bool cancelled() const;

 private:
  friend class CancelSource;
  friend class CancelCallback;
  explicit CancelToken(CancelSource& source) : source_(&source) {}
  CancelSource* source_ = nullptr;
};

class CancelCallback : private Hook {
 public:
  // On a token that is already cancelled the callback runs at once.
  CancelCallback(CancelToken token, std::move_only_function<void()> callback);

 private:
  friend class CancelSource;
  friend class HookList<CancelCallback>;
  std::move_only_function<void()> callback_;
};

class CancelSource {
 public:
  CancelToken token() { return CancelToken(*this); }
  bool cancelled() const { return cancelled_; }
  void cancel() {
    cancelled_ = true;
    while (!callbacks_.empty()) {
      // Moved out, because it may destroy the callback object it came from.
      auto callback = std::move(callbacks_.pop_front().callback_);
      callback();
    }
  }

 private:
  friend class CancelCallback;
  HookList<CancelCallback> callbacks_;
  bool cancelled_ = false;
};

inline bool CancelToken::cancelled() const { return source_ != nullptr && source_->cancelled(); }

inline CancelCallback::CancelCallback(CancelToken token, std::move_only_function<void()> callback)
    : callback_(std::move(callback)) {
  if (token.source_ == nullptr) return;
  if (token.cancelled()) {
    callback_();
  } else {
    token.source_->callbacks_.push_back(*this);
  }
}

}  // namespace mayfly
