#include "serving/crash_guard.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {
constexpr VersionKey kFraud{.function = {1}, .version = 3};
constexpr VersionKey kCanary{.function = {1}, .version = 4};
constexpr TimePoint kStart{1h};
}  // namespace

TEST_CASE("who keeps killing instances waits, longer each time, and nobody else does") {
  CrashGuard guard;
  TimePoint now = kStart;
  const auto die = [&] {
    now += 200ms;
    guard.died("eve", kFraud, now);
  };
  die();
  die();
  CHECK(guard.wait_of("eve", kFraud, now) == 0s);
  die();
  CHECK(guard.wait_of("eve", kFraud, now) == 1s);
  CHECK(guard.wait_of("bob", kFraud, now) == 0s);
  CHECK(guard.wait_of("eve", kCanary, now) == 0s);
  now += 1s;
  CHECK(guard.wait_of("eve", kFraud, now) == 0s);
  die();
  CHECK(guard.wait_of("eve", kFraud, now) == 2s);
  for (int i = 0; i < 20; ++i) die();
  CHECK(guard.wait_of("eve", kFraud, now) == CrashGuard::kLongest);
}

TEST_CASE("an answer ends the row of deaths, and what dies together died once") {
  CrashGuard guard;
  TimePoint now = kStart;
  for (int i = 0; i < 100; ++i) {  // one crash in a while is nobody's attack
    now += 10s;
    guard.died("app", kFraud, now);
    guard.answered("app", kFraud);
  }
  CHECK(guard.wait_of("app", kFraud, now) == 0s);
  for (int i = 0; i < 100; ++i) guard.died("app", kFraud, now);
  CHECK(guard.wait_of("app", kFraud, now) == 0s);
  guard.answered("app", kFraud);
  CHECK(guard.size() == 0);
}

TEST_CASE("deaths long ago are forgotten") {
  CrashGuard guard;
  guard.died("eve", kFraud, kStart);
  guard.died("eve", kFraud, kStart + 1s);
  const TimePoint later = kStart + CrashGuard::kMemory + 2s;
  guard.died("eve", kFraud, later);
  CHECK(guard.wait_of("eve", kFraud, later) == 0s);
}

TEST_CASE("it remembers a bounded number of callers, the latest") {
  CrashGuard guard;
  for (int i = 0; i < 3; ++i) guard.died("old", kFraud, kStart + i * 1s);
  for (std::size_t i = 0; i < CrashGuard::kCallers; ++i)
    guard.died("c" + std::to_string(i), kFraud, kStart + 3s);
  CHECK(guard.size() == CrashGuard::kCallers);
  CHECK(guard.wait_of("old", kFraud, kStart + 2s) == 0s);
}
