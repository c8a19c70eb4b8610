#include "identity/token_bucket.h"

#include "base/testing/fake_clock.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

TEST_CASE("a token bucket gives a burst, then its rate, and never more than it holds") {
  FakeClock clock;
  TokenBucket bucket(10, 3, clock.now());
  const auto taken = [&](int tries) {
    int got = 0;
    for (int i = 0; i < tries; ++i) got += bucket.take(clock.now()) ? 1 : 0;
    return got;
  };
  CHECK(taken(5) == 3);
  clock.advance(99ms);
  CHECK(taken(5) == 0);
  clock.advance(1ms);
  CHECK(taken(5) == 1);
  clock.advance(1h);
  CHECK(taken(100) == 3);
}
