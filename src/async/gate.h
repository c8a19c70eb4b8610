// Gate: stops new work and knows when the old work is done, so that what the work uses can be
// destroyed.
//
//   std::optional<Gate::Hold> hold = gate.hold();     // for as long as the work runs
//   if (!hold) co_return fail(Code::Unavailable, "the node is stopping");
//   …
//   co_await gate.close();                            // in stop(): after this nobody is inside
#pragma once

#include <coroutine>
#include <cstddef>
#include <optional>
#include <utility>

#include "async/hook.h"
#include "async/loop.h"
#include "base/check.h"

namespace mayfly {

class Gate {
 public:
  explicit Gate(Loop& loop) : loop_(loop) {}  // `loop` outlives the gate
  ~Gate() { CHECK(holders_ == 0); }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  class [[nodiscard]] Hold {
   public:
    Hold(Hold&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (gate_ != nullptr) gate_->leave();
    }

   private:
    friend class Gate;
    explicit Hold(Gate& gate) : gate_(&gate) { ++gate.holders_; }
    Gate* gate_;
  };

  // nullopt once the gate is closed.
  std::optional<Hold> hold() {
    if (closed_) return std::nullopt;
    return Hold(*this);
  }
  bool closed() const { return closed_; }
  std::size_t holders() const { return holders_; }

  // Closes at once; awaiting it waits for the last holder. May be called and awaited several times.
  [[nodiscard]] auto close() {
    closed_ = true;
    return Closing{*this};
  }

 private:
  struct Closing {
    explicit Closing(Gate& closing) : gate(closing) {}
    bool await_ready() const noexcept { return gate.holders_ == 0; }
    void await_suspend(std::coroutine_handle<> waiter) {
      resumption.handle = waiter;
      gate.waiters_.push_back(resumption);
    }
    void await_resume() const noexcept {}
    Gate& gate;
    Resumption resumption;
  };

  void leave() {
    if (--holders_ > 0 || !closed_) return;
    while (!waiters_.empty()) loop_.make_ready(waiters_.front());
  }

  Loop& loop_;
  std::size_t holders_ = 0;
  bool closed_ = false;
  HookList<Resumption> waiters_;
};

}  // namespace mayfly
