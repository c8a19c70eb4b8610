// How many bytes of large prediction bodies a node holds at a time. Each is bounded by itself
// (limits.max_body), and queues by their length; without this a thousand waiting bodies of 64 MiB
// would take all memory. Small bodies are not counted, so that hot calls pay nothing. Loop thread.
#pragma once

#include <utility>

#include "base/bytes.h"

namespace mayfly {

class BodyBudget {
 public:
  static constexpr Bytes kUncounted = kib(64);  // bodies up to here

  explicit BodyBudget(Bytes limit) : limit_(limit) {}

  // A share of the budget, given back when it is destroyed.
  class Hold {
   public:
    explicit Hold(BodyBudget& budget) : budget_(&budget) {}  // of nothing; `budget` outlives me
    Hold(Hold&& other) noexcept
        : budget_(other.budget_), bytes_(std::exchange(other.bytes_, Bytes{})) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() { budget_->used_ = budget_->used_ - bytes_; }

    // Whether there is room. A body that is alone always has: no limit may forbid what max_body
    // allows.
    bool grow_to(Bytes bytes) {
      if (bytes <= bytes_) return true;
      const Bytes others = budget_->used_ - bytes_;
      if (others.count > 0 && others + bytes > budget_->limit_) return false;
      budget_->used_ = others + bytes;
      bytes_ = bytes;
      return true;
    }

   private:
    BodyBudget* budget_;
    Bytes bytes_;
  };

  Bytes limit() const { return limit_; }
  Bytes used() const { return used_; }

 private:
  Bytes limit_;
  Bytes used_;
};

}  // namespace mayfly
