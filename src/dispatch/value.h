// What an idle process is worth: calls per second × what a call saves by finding it ÷ the bytes it
// holds. Under memory pressure the least valuable goes first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>

#include "base/bytes.h"
#include "base/clock.h"

namespace mayfly {

// Calls, averaged with exponential windows that are the same for all versions: a long one says what
// a version is worth keeping, a short one what goes on now.
class Rate {
 public:
  static constexpr Duration kWindow = std::chrono::minutes(5);
  static constexpr Duration kNow = std::chrono::seconds(5);
  void count(TimePoint now);
  double per_second(TimePoint now) const;  // of the short window

 private:
  friend double log_value(const Rate& rate, Duration saves, Bytes bytes);
  double weight_ = 0;
  double recent_ = 0;
  TimePoint at_{};
};

// Moves a mean an eighth of the way to a new value: it follows a change within some ten calls, and
// no single one. 0: there is none yet.
void follow(Duration& mean, Duration value);

// The logarithm of the value, up to a term that is the same for all at any moment: as every rate
// decays by the same factor, the order of two versions changes only when one of them is called, so
// an ordered set needs no refresh as time passes.
double log_value(const Rate& rate, Duration saves, Bytes bytes);

// How late it goes: a kept process only after all others.
enum class Priority : std::uint8_t { Guest, Ordinary, Kept };

// The idle processes of a node in the order in which they are ended. Values only grow while a
// version is called, so entries may be out of date on the low side and are corrected when they
// reach the front: being called costs nothing here.
class ReclaimOrder {
 public:
  // Pinned while it is listed. The owner knows what it stands for.
  class Entry {
   public:
    bool listed() const { return listed_; }

   private:
    friend class ReclaimOrder;
    Priority priority_ = Priority::Ordinary;
    double value_ = 0;
    bool listed_ = false;
  };

  // Lists the entry, or moves it to its present value.
  void put(Entry& entry, Priority priority, double value);
  void remove(Entry& entry);
  bool is_at(const Entry& entry, Priority priority, double value) const {
    return entry.priority_ == priority && entry.value_ == value;
  }
  Entry* least() const { return entries_.empty() ? nullptr : *entries_.begin(); }
  std::size_t size() const { return entries_.size(); }
  void clear() { entries_.clear(); }

 private:
  struct Before {
    bool operator()(const Entry* a, const Entry* b) const {
      if (a->priority_ != b->priority_) return a->priority_ < b->priority_;
      return a->value_ != b->value_ ? a->value_ < b->value_ : a < b;
    }
  };
  std::set<Entry*, Before> entries_;
};

}  // namespace mayfly
