#include "net/pace.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// How long a peer lasts that moves `bytes` after every `pause`, up to `limit`.
Duration lasts(Pace pace, std::uint64_t bytes, Duration pause, Duration limit) {
  Duration time{};
  while (time < limit && pause < pace.left()) {
    pace.waited(pause);
    pace.moved(bytes);
    time += pause;
  }
  return time >= limit ? limit : time + pace.left();
}

}  // namespace

TEST_CASE("who moves nothing is given up after the patience") {
  CHECK(lasts(Pace(30s, 256), 0, 31s, 1h) == 30s);
}

TEST_CASE("a byte now and then buys a moment, not another patience") {
  CHECK(lasts(Pace(30s, 256), 1, 29s, 1h) < 31s);
  CHECK(lasts(Pace(30s, 256), 1, 1s, 1h) < 31s);
  CHECK(lasts(Pace(30s, 256), 200, 1s, 48h) < 3min);
}

TEST_CASE("who is as fast as the rate goes on for ever, in even steps or in bursts") {
  CHECK(lasts(Pace(30s, 256), 256, 1s, 48h) == 48h);
  CHECK(lasts(Pace(30s, 256), 256 * 29, 29s, 48h) == 48h);
}

TEST_CASE("bytes in advance do not buy more than the patience") {
  Pace pace(30s, 256);
  pace.moved(64'000'000'000);
  CHECK(pace.left() == 30s);
  pace.waited(40s);
  CHECK(pace.left() == 0s);
  pace.moved(16'000'000'000'000'000'000U);
  CHECK(pace.left() == 30s);
}

}  // namespace mayfly
