#include "identity/refusal_limit.h"

#include "base/testing/fake_clock.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

TEST_CASE("some refusals of a caller are kept, the others are counted once") {
  FakeClock clock;
  RefusalLimit limit;
  const auto kept = [&](const char* who, int tries) {
    int count = 0;
    for (int i = 0; i < tries; ++i) count += limit.keep("team", who, clock.now()) ? 1 : 0;
    return count;
  };
  CHECK(kept("loop", 100) == 20);
  CHECK(kept("calm", 3) == 3);  // another's noise takes nothing of it
  CHECK(limit.has_dropped());
  const auto dropped = limit.collect();
  REQUIRE(dropped.size() == 1);
  CHECK(dropped[0].project == "team");
  CHECK(dropped[0].who == "loop");
  CHECK(dropped[0].count == 80);
  CHECK_FALSE(limit.has_dropped());
  CHECK(limit.collect().empty());
}

TEST_CASE("who goes on being refused is kept at a rate, however often it is collected") {
  FakeClock clock;
  RefusalLimit limit;
  int kept = 0;
  for (int second = 0; second < 60; ++second) {
    for (int i = 0; i < 50; ++i) kept += limit.keep("team", "loop", clock.now()) ? 1 : 0;
    if (second % 10 == 9) (void)limit.collect();
    clock.advance(1s);
  }
  CHECK(kept == 20 + 59);
}

TEST_CASE("callers without number share one rate") {
  FakeClock clock;
  RefusalLimit limit;
  std::size_t kept = 0;
  for (int i = 0; i < 5000; ++i)
    kept += limit.keep("team", std::to_string(i), clock.now()) ? 1U : 0U;
  CHECK(kept <= RefusalLimit::kMostCallers + static_cast<std::size_t>(RefusalLimit::kBurst));
}
