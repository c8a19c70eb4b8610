// Whose turn it is: start-time fair queueing (Goyal, Vin, Cheng 1996) over functions.
//
// Each piece of work gets a start tag, max(virtual time, the function's finish tag), and pushes the
// function's finish tag by its cost; the least start tag goes first, and virtual time is the start
// tag of the work begun last. So a function that floods only pushes its own tags into the future,
// and one that was silent neither saves up credit nor pays for having run alone before. O(log n) in
// the versions that wait. Costs are token time (instances' threads × wall time): estimated when
// work begins, corrected when it ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>

#include "base/clock.h"

namespace mayfly {

class FairShare {
 public:
  // One per function.
  struct Account {
    Duration finish{};
  };

  // One per version; pinned while it waits.
  class Contender {
   public:
    explicit Contender(Account& account) : account_(account) {}  // `account` outlives me
    bool waiting() const { return waiting_; }

   private:
    friend class FairShare;
    Account& account_;
    Duration tag_{};
    std::uint64_t order_ = 0;
    bool waiting_ = false;
  };

  // Joins those that wait; nothing happens if it waits already.
  void add(Contender& contender);
  void remove(Contender& contender);
  // The one to serve next; nullptr when nobody waits.
  Contender* head();
  std::size_t size() const { return waiting_.size(); }
  void clear() { waiting_.clear(); }  // all contenders are being destroyed

  void begin(Account& account, Duration cost);
  void correct(Account& account, Duration estimate, Duration actual) {
    account.finish += actual - estimate;
  }

 private:
  struct Before {
    bool operator()(const Contender* a, const Contender* b) const {
      return a->tag_ != b->tag_ ? a->tag_ < b->tag_ : a->order_ < b->order_;
    }
  };

  std::set<Contender*, Before> waiting_;
  Duration virtual_time_{};
  std::uint64_t order_ = 0;
};

}  // namespace mayfly
