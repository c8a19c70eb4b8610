// The tests by simulation: what they promise is a probability over streams looked at all the time.
#include "rollout/sequential.h"

#include <cmath>

#include "rollout/testing/stream.h"

#include <doctest/doctest.h>

namespace mayfly::rollout {
namespace {

using namespace std::chrono_literals;
using doctest::Approx;
using testing::Stream;

constexpr double kAlpha = 0.05;

void count(Tally& tally, bool hit) {
  ++tally.count;
  if (hit) ++tally.hits;
}

// The mixture by itself: log M_n(p), from the header.
double log_martingale(double n, double k, double p) {
  return std::lgamma(k + 0.5) + std::lgamma(n - k + 0.5) - std::lgamma(n + 1) - std::log(M_PI) -
         k * std::log(p) - (n - k) * std::log(1 - p);
}

// Whether two versions of the same error rate are ever told apart by more than the margin, with a
// look after every request of either.
bool errors_alarm(Stream& stream, double rate, int requests) {
  Tally champion;
  Tally challenger;
  for (int i = 0; i < requests; ++i) {
    count(stream.chance(0.5) ? champion : challenger, stream.chance(rate));
    if (compare_rates(champion, challenger, kAlpha).bounds.low > 0) return true;
  }
  return false;
}

bool times_alarm(Stream& stream, double share, int requests) {
  LogHistogram champion;
  LogHistogram challenger;
  for (int i = 0; i < requests; ++i) {
    (stream.chance(0.5) ? champion : challenger).add(stream.time(2ms));
    if (compare_quantiles(champion, challenger, share, kAlpha).bounds.low > 0) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("the ends of a rate's bounds are where the martingale reaches its level") {
  for (const auto& [n, k] : {std::pair{10, 3}, {100, 1}, {1000, 999}, {100000, 70}, {7, 0}}) {
    const Tally tally{static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(k)};
    const Bounds bounds = rate_bounds(tally, 0.01);
    CAPTURE(n);
    CAPTURE(k);
    CHECK(bounds.low <= tally.rate());
    CHECK(bounds.high >= tally.rate());
    CHECK(log_martingale(n, k, bounds.high) == Approx(std::log(100)).epsilon(1e-6));
    if (k > 0) CHECK(log_martingale(n, k, bounds.low) == Approx(std::log(100)).epsilon(1e-6));
  }
  CHECK(rate_bounds({7, 0}, 0.01).low == 0);
  CHECK(rate_bounds({7, 7}, 0.01).high == 1);
  CHECK(rate_bounds({}, 0.01).high == 1);
}

TEST_CASE("bounds stay in order and around the estimate up to counts beyond any traffic") {
  for (std::uint64_t n = 1; n < (std::uint64_t{1} << 52); n *= 8) {
    for (const std::uint64_t k : {std::uint64_t{0}, n / 1000, n / 2, n - 1, n}) {
      const Bounds bounds = rate_bounds({n, k}, 0.001);
      const double rate = Tally{n, k}.rate();
      CAPTURE(n);
      CAPTURE(k);
      CHECK(bounds.low >= 0);
      CHECK(bounds.low <= rate + 1e-12);
      CHECK(bounds.high >= rate - 1e-12);
      CHECK(bounds.high <= 1);
    }
  }
}

TEST_CASE("a quantile's bounds end, and hold it, for counts beyond any traffic") {
  for (const std::uint64_t count : {std::uint64_t{1} << 40, std::uint64_t{1} << 53}) {
    LogHistogram times;
    for (std::uint32_t bin = 500; bin < 600; ++bin) times.add_bin(bin, count / 50);
    const Bounds bounds = quantile_bounds(times, 0.5, 0.001);
    CHECK(bounds.low <= static_cast<double>(times.quantile(0.5).count()));
    CHECK(bounds.high >= static_cast<double>(times.quantile(0.5).count()));
    CHECK(bounds.high < 1.1 * bounds.low);
  }
}

TEST_CASE("no samples bound nothing") {
  LogHistogram none;
  LogHistogram some;
  some.add(1ms);
  CHECK(std::isinf(quantile_bounds(none, 0.5, kAlpha).high));
  CHECK(quantile_bounds(some, 0.5, kAlpha).low == 0);
  CHECK(std::isinf(quantile_bounds(some, 0.5, kAlpha).high));
  CHECK(compare_quantiles(none, some, 0.5, kAlpha).bounds.low == -1);
  CHECK(compare_rates({}, {1, 1}, kAlpha).bounds.low < 0);
}

TEST_CASE(
    "over 2,000 streams looked at after every sample, a rate's bounds miss it in at most alpha") {
  int missed = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    Stream stream(seed);
    Tally tally;
    for (int i = 0; i < 150; ++i) {
      count(tally, stream.chance(0.1));
      const Bounds bounds = rate_bounds(tally, kAlpha);
      if (bounds.low > 0.1 || bounds.high < 0.1) {
        ++missed;
        break;
      }
    }
  }
  MESSAGE("missed " << missed << " of 2000");
  CHECK(missed <= 2000 * kAlpha);
  CHECK(missed > 0);  // nor are they idle
}

TEST_CASE("over 2,000 A/A streams looked at after every sample, errors alarm in at most alpha") {
  int alarms = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    Stream stream(seed);
    if (errors_alarm(stream, 0.2, 150)) ++alarms;
  }
  MESSAGE("alarms " << alarms << " of 2000");
  CHECK(alarms <= 2000 * kAlpha);
}

TEST_CASE("over 1,000 A/A streams looked at after every sample, times alarm in at most alpha") {
  for (const double share : {0.5, 0.95}) {
    int alarms = 0;
    for (std::uint64_t seed = 0; seed < 500; ++seed) {
      Stream stream(seed + 1'000'000);
      if (times_alarm(stream, share, 100)) ++alarms;
    }
    MESSAGE("alarms at " << share << ": " << alarms << " of 500");
    CHECK(alarms <= 500 * kAlpha);
  }
}

TEST_CASE(
    "over 1,000 streams looked at after every sample, each end misses a median in at most alpha") {
  int too_high = 0;
  int too_low = 0;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    Stream stream(seed);
    LogHistogram times;
    bool above = false;
    bool below = false;
    for (int i = 0; i < 100; ++i) {
      times.add(stream.time(2ms, 1.0));
      const Bounds bounds = quantile_bounds(times, 0.5, kAlpha);
      above = above || bounds.low > 2e6;
      below = below || bounds.high < 2e6;
    }
    too_high += above ? 1 : 0;
    too_low += below ? 1 : 0;
  }
  MESSAGE("too high " << too_high << ", too low " << too_low << " of 1000");
  CHECK(too_high <= 1000 * kAlpha);
  CHECK(too_low <= 1000 * kAlpha);
  CHECK(too_high + too_low > 0);  // nor are they idle
}

TEST_CASE("shadows alarm no more although both versions answer the same requests") {
  int alarms = 0;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    Stream stream(seed);
    Tally champion;
    Tally challenger;
    bool alarm = false;
    for (int i = 0; i < 100 && !alarm; ++i) {
      const bool hard = stream.chance(0.3);  // fails where the other does not
      count(champion, hard);
      count(challenger, !hard && stream.chance(0.3 / 0.7));
      alarm = compare_rates(champion, challenger, kAlpha).bounds.low > 0;
    }
    if (alarm) ++alarms;
  }
  MESSAGE("alarms " << alarms << " of 1000");
  CHECK(alarms <= 1000 * kAlpha);
}

TEST_CASE("a quantile's bounds hold the true one and close in on it") {
  Stream stream(1);
  LogHistogram times;
  double width = 1e9;
  for (int i = 1; i <= 64000; ++i) {
    times.add(stream.time(2ms));
    if (i % 16000 != 0) continue;
    const Bounds bounds = quantile_bounds(times, 0.5, 0.001);
    CHECK(bounds.low < 2e6);
    CHECK(bounds.high > 2e6);
    CHECK(bounds.high - bounds.low <= width);
    width = bounds.high - bounds.low;
  }
  CHECK(width < 0.05 * 2e6);
}

}  // namespace mayfly::rollout
