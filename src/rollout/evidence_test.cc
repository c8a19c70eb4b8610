#include "rollout/evidence.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "rollout/snapshot.h"
#include "rollout/testing/stream.h"

#include <doctest/doctest.h>

namespace mayfly::rollout {
namespace {

using namespace std::chrono_literals;
using doctest::Approx;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

OutputSummary summary_of(std::string_view name, const std::vector<double>& values) {
  OutputSummary summary(name);
  for (const double value : values) summary.add(value);
  return summary;
}

void add_output(Evidence& evidence, const std::vector<double>& values) {
  const OutputSummary summary = summary_of("score", values);
  evidence.add({.outputs = {&summary, 1}});
}

// Of all tiers, outcomes and kinds of output.
void add_varied(Evidence& evidence, testing::Stream& stream, int requests) {
  const std::array tiers = {StartTier::Hot, StartTier::Template, StartTier::Cold,
                            StartTier::Origin};
  for (int i = 0; i < requests; ++i) {
    const std::array outputs = {summary_of("score", {stream.normal(), stream.uniform()}),
                                summary_of("label", {i % 7 == 0 ? kNan : 1.0})};
    evidence.add({.outcome = stream.chance(0.1) ? Outcome::Failed : Outcome::Answered,
                  .tier = tiers.at(static_cast<std::size_t>(i) % tiers.size()),
                  .run = stream.time(2ms),
                  .start = stream.time(500us),
                  .outputs = outputs,
                  .likeness = Likeness{stream.chance(0.9), stream.uniform()}});
  }
}

Evidence varied_evidence(testing::Stream& stream, int requests) {
  Evidence evidence;
  add_varied(evidence, stream, requests);
  return evidence;
}

void check_close(const Moments& a, const Moments& b) {
  CHECK(a.count == b.count);
  CHECK(a.mean == Approx(b.mean).epsilon(1e-9));
  CHECK(a.squares == Approx(b.squares).epsilon(1e-9));
  CHECK(a.low == b.low);
  CHECK(a.high == b.high);
}

}  // namespace

TEST_CASE("every duration falls between the edges of its bin, which is at most 1.6 % wide") {
  std::uint32_t last = 0;
  for (Duration::rep ns = 0; ns < (Duration::rep{1} << 42); ns += 1 + ns / 100) {
    const std::uint32_t bin = LogHistogram::bin_of(Duration(ns));
    const auto low = LogHistogram::lower_edge(bin).count();
    const auto high = LogHistogram::lower_edge(bin + 1).count();
    REQUIRE(bin >= last);
    REQUIRE(bin < LogHistogram::kBins);
    REQUIRE(low <= ns);
    REQUIRE(ns < high);
    if (ns >= 64) REQUIRE(static_cast<double>(high - low) <= 0.016 * static_cast<double>(low));
    last = bin;
  }
  CHECK(LogHistogram::bin_of(-5ns) == 0);
  CHECK(LogHistogram::bin_of(Duration::max()) == LogHistogram::kBins - 1);
}

TEST_CASE("a quantile of a histogram lies within a bin of the true one") {
  LogHistogram times;
  CHECK(times.quantile(0.5) == 0ns);
  for (int i = 1; i <= 1000; ++i) times.add(i * 10us);
  CHECK(static_cast<double>(times.quantile(0.5).count()) == Approx(5e6).epsilon(0.016));
  CHECK(static_cast<double>(times.quantile(0.95).count()) == Approx(9.5e6).epsilon(0.016));
}

TEST_CASE("an error counts as a request and has no times") {
  Evidence evidence;
  evidence.add({.outcome = Outcome::Failed, .tier = StartTier::Cold, .run = 1s, .start = 1s});
  evidence.add({.tier = StartTier::Hot, .run = 1ms, .start = 1s});
  evidence.add({.tier = StartTier::Template, .run = 2ms, .start = 3ms});
  evidence.add({.tier = StartTier::Origin, .run = 2ms, .start = 3ms});
  CHECK(evidence.requests == 4);
  CHECK(evidence.errors == 1);
  CHECK(evidence.run[0].count() == 1);
  CHECK(evidence.run[1].count() == 1);
  CHECK(evidence.run[2].count() == 0);
  CHECK(evidence.start[0].count() == 0);  // hot requests were not started
  CHECK(evidence.start[1].count() == 1);
}

TEST_CASE("values that are not finite are counted and poison nothing") {
  Evidence evidence;
  add_output(evidence, {1, kNan, 3});
  add_output(evidence, {kInf, -kInf});
  add_output(evidence, {2});
  const OutputEvidence& output = evidence.outputs.at("score");
  CHECK(output.replies == 3);
  CHECK(output.non_finite == 3);
  CHECK(output.non_finite_replies == 2);
  CHECK(output.moments.count == 3);
  CHECK(output.moments.mean == Approx(2));
  CHECK(output.moments.variance() == Approx(1));
  CHECK(output.moments.low == 1);
  CHECK(output.moments.high == 3);
}

TEST_CASE("the largest numbers overflow no sum") {
  constexpr double kMax = std::numeric_limits<double>::max();
  Evidence evidence;
  for (int i = 0; i < 100; ++i) add_output(evidence, {kMax, -kMax, 0});
  const Moments& moments = evidence.outputs.at("score").moments;
  CHECK(std::isfinite(moments.mean));
  CHECK(std::isfinite(moments.variance()));
  CHECK(moments.high == kMax);
  CHECK(parse_evidence(to_json(evidence)).has_value());
}

TEST_CASE("replies that are all the same have not varied, whatever the size of the batch") {
  Evidence evidence;
  add_output(evidence, {0.5});
  add_output(evidence, {0.5, 0.5, 0.5});
  CHECK_FALSE(evidence.outputs.at("score").varied);
  CHECK(evidence.outputs.at("score").commonest() == 2);
  add_output(evidence, {0.5, 0.4});
  CHECK(evidence.outputs.at("score").varied);
  Evidence pairs;
  add_output(pairs, {0.9, 0.1});
  add_output(pairs, {0.9, 0.1});
  CHECK_FALSE(pairs.outputs.at("score").varied);
  add_output(pairs, {0.1, 0.9});
  CHECK(pairs.outputs.at("score").varied);
}

TEST_CASE("merging is adding the other's observations") {
  testing::Stream stream(7);
  Evidence merged = varied_evidence(stream, 300);
  merged.merge(varied_evidence(stream, 200));
  testing::Stream again(7);
  Evidence sequential;
  add_varied(sequential, again, 300);
  add_varied(sequential, again, 200);
  CHECK(merged.requests == 500);
  CHECK(merged.errors == sequential.errors);
  CHECK(merged.errors > 0);
  CHECK(merged.run == sequential.run);
  CHECK(merged.start == sequential.start);
  CHECK(merged.agreement == sequential.agreement);
  REQUIRE(merged.outputs.size() == 2);
  for (const auto& [name, output] : merged.outputs) {
    OutputEvidence other = sequential.outputs.at(name);
    check_close(output.moments, other.moments);
    other.moments = output.moments;
    CHECK(output == other);
  }
}

TEST_CASE("moments of parts merge to the moments of the whole") {
  testing::Stream stream(11);
  Moments whole;
  Moments left;
  Moments right;
  for (int i = 0; i < 1000; ++i) {
    const double value = 1e6 + stream.normal();
    whole.add(value);
    (i < 333 ? left : right).add(value);
  }
  left.merge(right);
  check_close(left, whole);
  CHECK(whole.variance() == Approx(1).epsilon(0.15));
}

TEST_CASE("evidence has at most 64 outputs") {
  Evidence evidence;
  for (int i = 0; i < 100; ++i) {
    const std::string name = std::to_string(i);
    const OutputSummary summary = summary_of(name, {1});
    evidence.add({.outputs = {&summary, 1}});
  }
  CHECK(evidence.outputs.size() == Evidence::kMaxOutputs);
  CHECK(parse_evidence(to_json(evidence)).has_value());
}

TEST_CASE("evidence and snapshots survive a round trip through JSON") {
  testing::Stream stream(3);
  const Evidence evidence = varied_evidence(stream, 500);
  const auto again = parse_evidence(to_json(evidence));
  REQUIRE(again.has_value());
  CHECK(*again == evidence);
  CHECK(*parse_evidence("{}") == Evidence{});
  const RolloutSnapshot snapshot{.step = 2,
                                 .time_in_step = 90s,
                                 .waited = 2h,
                                 .champion = evidence,
                                 .challenger = varied_evidence(stream, 10),
                                 .approved = true,
                                 .paused = true,
                                 .held_out = HeldOut{.rows = 7, .champion = evidence}};
  const auto restarted = parse_snapshot(to_json(snapshot));
  REQUIRE(restarted.has_value());
  CHECK(*restarted == snapshot);
}

TEST_CASE("evidence that could not have been collected is refused") {
  const char* output = R"({"outputs":{"s":{"replies":1,"values":1,"prints":[[0,1]])";
  CHECK(parse_evidence(std::string(output) + "}}}").has_value());
  for (const std::string& json : {
           std::string(R"({"request":1})"),
           std::string(R"({"requests":1,"errors":2})"),
           std::string(R"({"requests":-1})"),
           std::string(R"({"run":{"hot":[[2368,1]]}})"),
           std::string(R"({"run":{"hot":[[1,0]]}})"),
           std::string(R"({"run":{"hot":[[2,1],[1,1]]}})"),
           std::string(R"({"run":{"hot":[[1,1],[1,1]]}})"),
           std::string(R"({"run":{"hot":[[1,9007199254740992],[2,1]]}})"),
           std::string(R"({"run":{"origin":[]}})"),
           std::string(R"({"outputs":{"s":{"replies":2,"prints":[[0,1]]}}})"),
           output + std::string(R"(,"squares":-1}}})"),
           output + std::string(R"(,"low":1,"high":0}}})"),
           output + std::string(R"(,"mean":1e200}}})"),
           output + std::string(R"(,"non_finite_replies":2}}})"),
           std::string(R"({"agreement":{"compared":1,"agreed":2}})"),
       }) {
    CAPTURE(json);
    CHECK_FALSE(parse_evidence(json).has_value());
  }
}

TEST_CASE("a difference that is not a number is a disagreement") {
  Evidence evidence;
  evidence.add({.likeness = Likeness{true, kNan}});
  evidence.add({.likeness = Likeness{true, -2}});
  CHECK(evidence.agreement == Agreement{2, 1, 2});
}

TEST_CASE("the effect size is the distance of the means in pooled standard deviations") {
  testing::Stream stream(5);
  Moments champion;
  Moments challenger;
  for (int i = 0; i < 20000; ++i) {
    champion.add(stream.normal());
    challenger.add(0.8 + stream.normal());
  }
  CHECK(effect_size(champion, challenger) == Approx(0.8).epsilon(0.05));
  CHECK(effect_size(champion, champion) == 0);
  CHECK(effect_size(champion, {}) == 0);
  Moments one;
  Moments two;
  one.add(1);
  two.add(2);
  CHECK(effect_size(one, two) == kLargestEffect);
}

}  // namespace mayfly::rollout
