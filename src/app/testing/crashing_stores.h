// Stores of events that kill the server, as kill -9 does, at a chosen place of what they write. For
// the test that every accepted event ends once, wherever the server dies.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "gateway/event_service.h"

namespace mayfly {

// A place is a call and whether it has been made: "complete.after" is when the end of an event has
// been committed and nobody knows of it yet.
class CrashPoint {
 public:
  // "complete.after:3": the third time that this place is passed; "": never.
  static Result<CrashPoint> parse(std::string_view text);
  CrashPoint(CrashPoint&& other) noexcept
      : place_(std::move(other.place_)), left_(other.left_.load()) {}

  // Any thread.
  void pass(std::string_view place);

 private:
  CrashPoint(std::string place, std::uint64_t times) : place_(std::move(place)), left_(times) {}
  std::string place_;
  std::atomic<std::uint64_t> left_;
};

// `crash` outlives what is made.
EventStores crashing_stores(EventStores stores, CrashPoint& crash);

}  // namespace mayfly
