#include "events/telling.h"

#include <limits>

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

constexpr WallTime kEnd{1'000h};
constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();

Delivery tried(std::uint32_t attempts) {
  Delivery delivery;
  delivery.attempts = attempts;
  delivery.since = kEnd;
  delivery.error = "before";
  return delivery;
}

}  // namespace

TEST_CASE("what was told is over, and what no attempt can tell is given up at once") {
  const auto delivered = after_telling(tried(3), {Told::Delivered, ""}, {}, kEnd + 1s, kMost);
  CHECK(delivered.state == DeliveryState::Delivered);
  CHECK(delivered.attempts == 4);
  CHECK(delivered.error.empty());
  const auto refused = after_telling(tried(0), {Told::Refused, "410"}, {}, kEnd + 1s, kMost);
  CHECK(refused.state == DeliveryState::GivenUp);
  CHECK(refused.error == "410");
}

TEST_CASE("what failed is tried again, later and later, for a day and twelve times at most") {
  Duration before{};
  for (std::uint32_t attempts = 0; attempts < 11; ++attempts) {
    const auto failed = after_telling(tried(attempts), {Told::Failed, "500"}, {}, kEnd, kMost);
    CAPTURE(attempts);
    REQUIRE(failed.state == DeliveryState::Waiting);
    CHECK(failed.attempts == attempts + 1);
    CHECK(failed.when - kEnd > before);
    before = failed.when - kEnd;
  }
  CHECK(before > 2h);
  CHECK(after_telling(tried(11), {Told::Failed, "500"}, {}, kEnd, 0).state ==
        DeliveryState::GivenUp);
  CHECK(after_telling(tried(0), {Told::Failed, "500"}, {}, kEnd, 0).when == kEnd);
  CHECK(after_telling(tried(5), {Told::Failed, "500"}, {}, kEnd + 24h, 0).state ==
        DeliveryState::Waiting);
  CHECK(after_telling(tried(5), {Told::Failed, "500"}, {}, kEnd + 24h, kMost).state ==
        DeliveryState::GivenUp);
}

TEST_CASE("an attempt that the node cut off does not count") {
  const auto cut = after_telling(tried(5), {Told::CutOff, "stopping"}, {}, kEnd + 1s, kMost);
  CHECK(cut.state == DeliveryState::Waiting);
  CHECK(cut.attempts == 5);
  CHECK(cut.when == kEnd + 1s);
  CHECK(cut.error == "before");
}
