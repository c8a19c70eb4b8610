// Sketches against exact answers, and their bytes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "sketch/distinct_sketch.h"
#include "sketch/quantile_sketch.h"
#include "sketch/siphash.h"
#include "sketch/top_values.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

template <typename Sketch>
std::string bytes_of(const Sketch& sketch) {
  std::string bytes;
  sketch.append_to(bytes);
  return bytes;
}

template <typename Sketch>
Result<Sketch> parsed(std::string_view bytes) {
  ByteReader reader(bytes);
  return Sketch::parse(reader);
}

// The worst difference between a quantile's rank and what was asked.
double worst_rank(const QuantileSketch& sketch, std::vector<double> values) {
  std::ranges::sort(values);
  double worst = 0;
  for (int percent = 1; percent < 100; ++percent) {
    const double found = sketch.quantile(percent / 100.0);
    const auto below = std::ranges::upper_bound(values, found) - values.begin();
    const auto under = std::ranges::lower_bound(values, found) - values.begin();
    const auto n = static_cast<double>(values.size());
    const double low = static_cast<double>(under) / n;
    const double high = static_cast<double>(below) / n;
    const double wanted = percent / 100.0;
    worst = std::max({worst, low - wanted, wanted - high});
  }
  return worst;
}

}  // namespace

TEST_CASE("siphash is that of its paper") {
  // Appendix A: the key 00 01 … 0f, the message 00 01 … 0e.
  const SipKey key{.k0 = 0x0706050403020100U, .k1 = 0x0f0e0d0c0b0a0908U};
  std::string message;
  for (char i = 0; i < 15; ++i) message += i;
  CHECK(siphash(key, message) == 0xa129ca6149be45e5U);
  CHECK(siphash(key, "") == 0x726fdb47dd0e0e31U);
}

TEST_CASE("quantiles of a long stream are near the exact ones, merged or not") {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal(10, 3);
  std::vector<double> values;
  QuantileSketch whole;
  std::vector<QuantileSketch> pieces(5);
  for (int i = 0; i < 200'000; ++i) {
    values.push_back(i % 3 == 0 ? normal(random) : std::exp(normal(random) / 10));
    whole.add(values.back());
    pieces[static_cast<std::size_t>(i) % pieces.size()].add(values.back());
  }
  CHECK(worst_rank(whole, values) < 0.02);
  CHECK(whole.min() == std::ranges::min(values));
  CHECK(whole.quantile(1) == std::ranges::max(values));
  CHECK(bytes_of(whole).size() < 8000);
  for (std::size_t i = 1; i < pieces.size(); ++i) pieces[0].merge(pieces[i]);
  CHECK(pieces[0].count() == values.size());
  CHECK(worst_rank(pieces[0], values) < 0.02);
}

TEST_CASE("few values are exact") {
  QuantileSketch sketch;
  CHECK(std::isnan(sketch.quantile(0.5)));
  for (const double value : {3.0, 1.0, 2.0, 2.0}) sketch.add(value);
  CHECK(sketch.quantiles({0, 0.25, 0.5, 0.75, 1}) == std::vector<double>{1, 1, 2, 2, 3});
  CHECK(sketch.ranks({0, 1, 2, 3}) == std::vector<double>{0, 0.25, 0.75, 1});
}

TEST_CASE("a sketch of quantiles is its bytes, and no others") {
  QuantileSketch sketch;
  for (int i = 0; i < 10'000; ++i) sketch.add(i);
  const std::string bytes = bytes_of(sketch);
  const auto again = parsed<QuantileSketch>(bytes);
  REQUIRE(again.has_value());
  CHECK(bytes_of(*again) == bytes);
  CHECK(again->count() == 10'000);
  CHECK(again->quantile(0.5) == sketch.quantile(0.5));
  for (std::size_t cut = 0; cut < bytes.size(); cut += 97)
    CHECK_FALSE(parsed<QuantileSketch>(std::string_view(bytes).substr(0, cut)).has_value());
  std::string wrong = bytes;
  wrong[7] = '\x7f';  // the least is greater than what is held
  CHECK_FALSE(parsed<QuantileSketch>(wrong).has_value());
  CHECK(parsed<QuantileSketch>(bytes_of(QuantileSketch())).has_value());
}

TEST_CASE("distinct values are counted within a few percent, few of them nearly exactly") {
  for (const std::uint64_t wanted : {0U, 1U, 10U, 1000U, 5000U, 100'000U}) {
    DistinctSketch sketch;
    DistinctSketch other;
    for (std::uint64_t i = 0; i < wanted; ++i) {
      (i % 2 == 0 ? sketch : other).add(fmt::format("value {}", i));
      if (i % 3 == 0) sketch.add(fmt::format("value {}", i));
    }
    sketch.merge(other);
    const auto found = static_cast<double>(sketch.estimate());
    CAPTURE(wanted);
    CHECK(std::abs(found - static_cast<double>(wanted)) <= 0.05 * static_cast<double>(wanted));
  }
}

TEST_CASE("bytes that no sketch of distinct values has are refused") {
  DistinctSketch sketch;
  sketch.add("a");
  std::string bytes = bytes_of(sketch);
  REQUIRE(parsed<DistinctSketch>(bytes).has_value());
  CHECK_FALSE(parsed<DistinctSketch>(std::string_view(bytes).substr(1)).has_value());
  bytes[0] = 60;
  CHECK_FALSE(parsed<DistinctSketch>(bytes).has_value());
}

TEST_CASE("what is frequent is found among what is rare") {
  std::mt19937_64 random(3);
  TopValues first;
  TopValues second;
  for (std::uint64_t i = 0; i < 100'000; ++i) {
    TopValues& sketch = i % 2 == 0 ? first : second;
    if (i % 10 == 0) sketch.add("often");
    if (i % 20 == 1) sketch.add("sometimes");
    sketch.add(fmt::format("{}", random() % 100'000));
  }
  first.merge(second);
  const auto top = first.top(2);
  REQUIRE(top.size() == 2);
  CHECK(top[0].value == "often");
  CHECK(top[1].value == "sometimes");
  CHECK(top[0].count >= 10'000);
  CHECK(top[0].count - top[0].error <= 10'000);
}

TEST_CASE("few values are counted exactly; long ones are cut between characters") {
  TopValues sketch;
  for (const char* value : {"b", "a", "b"}) sketch.add(value);
  std::string umlauts;
  for (int i = 0; i < 100; ++i) umlauts += "ä";
  sketch.add("x" + umlauts);
  const auto top = sketch.top(10);
  REQUIRE(top.size() == 3);
  CHECK(top[0].value == "b");
  CHECK(top[0].count == 2);
  CHECK(top[0].error == 0);
  CHECK(top[1].value == "a");
  CHECK(top[2].value.size() == 127);
  const std::string bytes = bytes_of(sketch);
  const auto again = parsed<TopValues>(bytes);
  REQUIRE(again.has_value());
  CHECK(bytes_of(*again) == bytes);
  CHECK_FALSE(parsed<TopValues>(std::string_view(bytes).substr(0, bytes.size() - 1)).has_value());
}
