#include "gateway/crash_guard.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {
constexpr FunctionId kFraud{1};
constexpr TimePoint kStart{1h};
}  // namespace

TEST_CASE("who keeps killing instances waits, longer each time, and nobody else does") {
  CrashGuard guard;
  TimePoint now = kStart;
  guard.died("eve", kFraud, now);
  guard.died("eve", kFraud, now);
  CHECK(guard.wait_of("eve", kFraud, now) == 0s);
  guard.died("eve", kFraud, now);
  CHECK(guard.wait_of("eve", kFraud, now) == 1s);
  CHECK(guard.wait_of("bob", kFraud, now) == 0s);
  CHECK(guard.wait_of("eve", FunctionId{2}, now) == 0s);
  now += 1s;
  CHECK(guard.wait_of("eve", kFraud, now) == 0s);
  guard.died("eve", kFraud, now);
  CHECK(guard.wait_of("eve", kFraud, now) == 2s);
  for (int i = 0; i < 20; ++i) guard.died("eve", kFraud, now);
  CHECK(guard.wait_of("eve", kFraud, now) == CrashGuard::kLongest);
}

TEST_CASE("deaths long ago are forgotten") {
  CrashGuard guard;
  guard.died("eve", kFraud, kStart);
  guard.died("eve", kFraud, kStart);
  const TimePoint later = kStart + CrashGuard::kMemory + 1s;
  guard.died("eve", kFraud, later);
  CHECK(guard.wait_of("eve", kFraud, later) == 0s);
}

TEST_CASE("it remembers a bounded number of callers, the latest") {
  CrashGuard guard;
  for (int i = 0; i < 3; ++i) guard.died("old", kFraud, kStart);
  for (std::size_t i = 0; i < CrashGuard::kCallers; ++i)
    guard.died("c" + std::to_string(i), kFraud, kStart + 1s);
  CHECK(guard.size() == CrashGuard::kCallers);
  CHECK(guard.wait_of("old", kFraud, kStart) == 0s);
  for (int i = 0; i < 2; ++i) guard.died("c9", kFraud, kStart + 1s);
  CHECK(guard.wait_of("c9", kFraud, kStart + 1s) > 0s);
}
