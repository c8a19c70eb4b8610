// The rule as a table, then what it costs and saves in simulated rollouts.
#include "rollout/judge.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/json_reader.h"
#include "rollout/testing/stream.h"

#include <doctest/doctest.h>

namespace mayfly::rollout {
namespace {

using namespace std::chrono_literals;
using testing::Stream;

constexpr double kNoNumber = std::numeric_limits<double>::quiet_NaN();

struct Version {
  double errors = 0;
  Duration run = 2ms;
  std::function<double(Stream&)> output = [](Stream& stream) { return stream.normal(); };
};

void observe(Evidence& evidence, const Version& version, Stream& stream, int requests) {
  for (int i = 0; i < requests; ++i) {
    OutputSummary score("score");
    score.add(version.output(stream));
    evidence.add({.outcome = stream.chance(version.errors) ? Outcome::Failed : Outcome::Answered,
                  .run = stream.time(version.run),
                  .outputs = {&score, 1}});
  }
}

// The 5 % step after an hour, with `requests` of each version.
RolloutSnapshot after(const Version& champion, const Version& challenger, int requests) {
  Stream stream(42);
  RolloutSnapshot snapshot{.step = 2, .time_in_step = 1h};
  observe(snapshot.champion, champion, stream, requests);
  observe(snapshot.challenger, challenger, stream, requests);
  return snapshot;
}

RolloutSnapshot healthy() { return after({}, {}, 1000); }

const Finding* found(const Decision& decision, Check check) {
  const auto at = std::ranges::find(decision.findings, check, &Finding::check);
  return at == decision.findings.end() ? nullptr : &*at;
}

Verdict verdict_of(const Decision& decision, Check check) {
  const Finding* finding = found(decision, check);
  return finding == nullptr ? Verdict::Pass : finding->verdict;
}

Version giving(double value) {
  return {.output = [value](Stream&) { return value; }};
}

Version shifted_by(double distance) {
  return {.output = [distance](Stream& stream) { return distance + stream.normal(); }};
}

// Requests of each version until the challenger is rolled back; judged after every pair of them.
std::optional<int> rolled_back_after(const Version& champion, const Version& challenger,
                                     std::uint64_t seed, int most) {
  Stream stream(seed);
  RolloutSnapshot snapshot{.step = 3, .time_in_step = 1h};
  for (int i = 1; i <= most; ++i) {
    observe(snapshot.champion, champion, stream, 1);
    observe(snapshot.challenger, challenger, stream, 1);
    if (i % 20 == 0 && judge({}, snapshot).move == Move::RollBack) return i;
  }
  return std::nullopt;
}

}  // namespace

TEST_CASE("a healthy version climbs step by step and is done after the last") {
  const RolloutPlan plan;
  RolloutSnapshot snapshot = healthy();
  for (std::uint32_t step = 0; step < 4; ++step) {
    snapshot.step = step;
    const Decision decision = judge(plan, snapshot);
    CHECK(decision.move == Move::Promote);
    CHECK(decision.step == step + 1);
  }
  snapshot.step = 4;
  CHECK(judge(plan, snapshot).move == Move::Done);
  snapshot.step = 19;  // beyond the plan: as the last
  CHECK(judge(plan, snapshot).move == Move::Done);
  CHECK(judge(plan, snapshot).step == 4);
}

TEST_CASE(
    "a step is entered with fresh evidence, the last with the champion's of the step before") {
  const RolloutPlan plan;
  RolloutSnapshot snapshot = healthy();
  snapshot.approved = true;
  const RolloutSnapshot third = enter_step(plan, snapshot, 3);
  CHECK(third == RolloutSnapshot{.step = 3, .waited = 1h, .approved = true});
  const RolloutSnapshot last = enter_step(plan, snapshot, 4);
  CHECK(last.champion == snapshot.champion);
  CHECK(last.challenger == Evidence{});
  CHECK(judge(plan, last).move == Move::Hold);
}

TEST_CASE("a step holds until min_time and min_samples of both versions are reached") {
  const RolloutPlan plan;
  RolloutSnapshot snapshot = healthy();
  snapshot.time_in_step = plan.min_time - 1ns;
  CHECK(judge(plan, snapshot).move == Move::Hold);
  CHECK(verdict_of(judge(plan, snapshot), Check::Time) == Verdict::Hold);
  snapshot.time_in_step = plan.min_time;
  CHECK(judge(plan, snapshot).move == Move::Promote);
  for (const int requests : {0, 99}) {
    snapshot = after({}, {}, requests);
    CHECK(judge(plan, snapshot).move == Move::Hold);
    CHECK(verdict_of(judge(plan, snapshot), Check::Samples) == Verdict::Hold);
  }
  snapshot = after({}, {}, 100);
  snapshot.champion = {};
  CHECK(judge(plan, snapshot).move == Move::Hold);
  snapshot.step = 4;  // at 100 % the champion gets no requests
  CHECK(judge(plan, snapshot).move == Move::Done);
}

TEST_CASE("held-out rows stand in for requests that do not come within max_wait") {
  RolloutPlan plan;
  RolloutSnapshot snapshot = after({}, {}, 20);
  snapshot.time_in_step = 20min;
  snapshot.waited = 39min;
  CHECK_FALSE(judge(plan, snapshot).wants_rows);
  snapshot.waited = 40min;
  CHECK(judge(plan, snapshot).move == Move::Hold);
  CHECK(judge(plan, snapshot).wants_rows);
  CHECK(judge(plan, snapshot).basis == Basis::Requests);
  CHECK(judge(plan, snapshot).held.empty());
  const RolloutSnapshot rows = after({}, {}, 500);
  snapshot.held_out =
      HeldOut{.rows = 500, .champion = rows.champion, .challenger = rows.challenger};
  const Decision decision = judge(plan, snapshot);
  CHECK(decision.move == Move::Promote);
  CHECK(decision.step == 3);
  CHECK(decision.basis == Basis::HeldOutRows);
  CHECK_FALSE(decision.wants_rows);
  CHECK(decision.why == "passed 5 %, judged on held-out rows");
  CHECK(to_json(decision).contains(R"("judged_on":"held-out rows")"));
  // The steps that follow wait for min_time, and for nobody.
  snapshot = enter_step(plan, snapshot, 4);
  CHECK(snapshot.waited == 1h);
  CHECK(judge(plan, snapshot).move == Move::Hold);
  snapshot.time_in_step = plan.min_time;
  CHECK(judge(plan, snapshot).move == Move::Done);
  snapshot.paused = true;
  CHECK(judge(plan, snapshot).move == Move::Hold);
  CHECK(judge(plan, snapshot).held == "paused");
}

TEST_CASE("what held-out rows show is judged as requests are, which come first") {
  const RolloutPlan plan{.max_wait = 0s};
  RolloutSnapshot snapshot = after({}, {}, 20);
  const auto rows_of = [](const Version& challenger, int rows) {
    const RolloutSnapshot seen = after({}, challenger, rows);
    return HeldOut{.rows = static_cast<std::uint64_t>(rows),
                   .champion = seen.champion,
                   .challenger = seen.challenger};
  };
  snapshot.held_out = rows_of({.errors = 0.3}, 500);
  CHECK(judge(plan, snapshot).move == Move::RollBack);
  CHECK(judge(plan, snapshot).why.ends_with("judged on held-out rows"));
  snapshot.held_out = rows_of({.run = 8ms}, 500);
  CHECK(judge(plan, snapshot).move == Move::RollBack);
  snapshot.held_out = rows_of(shifted_by(2), 500);
  CHECK(judge(plan, snapshot).move == Move::Hold);
  CHECK(verdict_of(judge(plan, snapshot), Check::Shift) == Verdict::Hold);
  CHECK_FALSE(judge(plan, snapshot).held.empty());
  snapshot.approved = true;
  CHECK(judge(plan, snapshot).move == Move::Promote);
  CHECK(judge(plan, snapshot).held.empty());
  snapshot.held_out = rows_of({}, 50);
  CHECK(judge(plan, snapshot).move == Move::Hold);  // too few of them, too
  CHECK_FALSE(judge(plan, snapshot).wants_rows);
  // What may be chance is asked about again, and then decides.
  snapshot.held_out = rows_of({.run = 2400us}, 100);
  CHECK(judge(plan, snapshot).move == Move::Hold);
  CHECK(judge(plan, snapshot).wants_rows);
  CHECK(judge(plan, snapshot).held.empty());
  snapshot.held_out->merge(rows_of({.run = 2400us}, 8000));
  CHECK(judge(plan, snapshot).move == Move::RollBack);
  // What so many times leave open stays open.
  snapshot.held_out = rows_of({.run = 2400us}, 500);
  RolloutPlan close = plan;
  while (snapshot.held_out->challenger.timed() < kMostHeldOutTimes)
    snapshot.held_out->merge(rows_of({.run = 2400us}, 5000));
  close.latency_margin = found(judge(close, snapshot), Check::RunTime)->difference - 1e-9;
  CHECK(judge(close, snapshot).move == Move::Hold);
  CHECK_FALSE(judge(close, snapshot).wants_rows);
  CHECK(judge(close, snapshot).held.starts_with("run time p50"));
  // Enough requests pass a step whatever rows say, and harm to callers goes back.
  RolloutSnapshot busy = healthy();
  busy.held_out = rows_of({.errors = 0.3}, 500);
  CHECK(judge(plan, busy).move == Move::Promote);
  RolloutSnapshot harmed = after({}, {.errors = 1}, 60);
  harmed.held_out = rows_of({}, 500);
  CHECK(judge(plan, harmed).move == Move::RollBack);
  CHECK(judge(plan, harmed).basis == Basis::Requests);
}

TEST_CASE(
    "a held-out row counts once, however often it is asked about; its times count each time") {
  const RolloutPlan plan{.pass_on = PassOn::Proof, .max_wait = 0s};
  RolloutSnapshot snapshot = after({}, {}, 20);
  const RolloutSnapshot seen = after({}, {}, 500);
  HeldOut rows{.rows = 500, .champion = seen.champion, .challenger = seen.challenger};
  rows.challenger.errors = 7;  // of 500: 1.4 % where 1 % is tolerated
  rows.challenger.agreement = {.compared = 500, .agreed = 480};
  snapshot.held_out = rows;
  for (int again = 1; again < 100; ++again) snapshot.held_out->merge(rows);
  const Evidence& challenger = snapshot.held_out->challenger;
  CHECK(challenger.error_tally().count == 500);
  CHECK(challenger.errors == 7);
  CHECK(challenger.outputs == rows.challenger.outputs);
  CHECK(challenger.agreement == rows.challenger.agreement);
  CHECK(challenger.timed() == 50'000);
  const Decision decision = judge(plan, snapshot);
  CHECK(decision.move == Move::Hold);
  CHECK(verdict_of(decision, Check::Errors) == Verdict::Hold);
  CHECK(verdict_of(decision, Check::RunTime) == Verdict::Pass);
  CHECK_FALSE(decision.wants_rows);  // the same ones would tell nothing new
  CHECK(decision.held.starts_with("errors: 1.4 %"));
  RolloutSnapshot asked = healthy();  // of requests more come
  asked.challenger.errors = 7;
  CHECK(verdict_of(judge(plan, asked), Check::Errors) == Verdict::Hold);
  CHECK(judge(plan, asked).held.empty());
}

TEST_CASE("silence holds for ever, or rolls back after silence_limit if so asked, unless paused") {
  RolloutPlan plan;
  RolloutSnapshot snapshot{.step = 1, .time_in_step = 24h * 3650};
  CHECK(judge(plan, snapshot).move == Move::Hold);
  plan.on_silence = OnSilence::RollBack;
  CHECK(judge(plan, snapshot).move == Move::RollBack);
  snapshot.paused = true;
  CHECK(judge(plan, snapshot).move == Move::Hold);
  snapshot.paused = false;
  snapshot.time_in_step = plan.silence_limit - 1ns;
  CHECK(judge(plan, snapshot).move == Move::Hold);
}

TEST_CASE("errors beyond the margin roll back, at once and whatever is approved or paused") {
  RolloutSnapshot snapshot = after({}, {.errors = 0.3}, 80);
  snapshot.time_in_step = 1s;
  snapshot.approved = true;
  snapshot.paused = true;
  const Decision decision = judge({}, snapshot);
  CHECK(decision.move == Move::RollBack);
  CHECK(verdict_of(decision, Check::Errors) == Verdict::RollBack);
  CHECK(decision.why.starts_with("errors: "));
  CHECK(decision.step == 2);
}

TEST_CASE("errors that both versions have roll nothing back") {
  CHECK(judge({}, after({.errors = 0.3}, {.errors = 0.3}, 5000)).move != Move::RollBack);
}

TEST_CASE("an estimate beyond its margin holds until it is clear") {
  RolloutSnapshot snapshot = healthy();
  snapshot.champion.errors = 0;
  snapshot.challenger.errors = 14;  // of 1,000: 1.4 % where 1 % is tolerated
  const Decision decision = judge({}, snapshot);
  CHECK(decision.move == Move::Hold);
  CHECK(verdict_of(decision, Check::Errors) == Verdict::Hold);
  snapshot.challenger.errors = 10;
  CHECK(judge({}, snapshot).move == Move::Promote);
}

TEST_CASE("a slower run time rolls back, a faster one does not") {
  CHECK(judge({}, after({}, {.run = 3ms}, 2000)).move == Move::RollBack);
  CHECK(judge({}, after({}, {.run = 1ms}, 2000)).move == Move::Promote);
}

TEST_CASE("a difference below latency_floor is none") {
  const RolloutSnapshot snapshot = after({.run = 50us}, {.run = 100us}, 2000);
  RolloutPlan plan;
  CHECK(judge(plan, snapshot).move == Move::Promote);
  plan.latency_floor = 0ns;
  CHECK(judge(plan, snapshot).move == Move::RollBack);
}

TEST_CASE("start times and run times are compared within one tier only") {
  RolloutSnapshot snapshot = healthy();
  Stream stream(1);
  const auto start = [&](Evidence& evidence, StartTier tier, Duration time) {
    for (int i = 0; i < 1000; ++i) {
      evidence.add({.tier = tier, .run = 10 * time, .start = stream.time(time)});
    }
  };
  start(snapshot.champion, StartTier::Template, 1ms);
  start(snapshot.challenger, StartTier::Cold, 100ms);
  CHECK(judge({}, snapshot).move == Move::Promote);
  start(snapshot.challenger, StartTier::Template, 2ms);
  const Decision decision = judge({}, snapshot);
  CHECK(decision.move == Move::RollBack);
  CHECK(verdict_of(decision, Check::StartTime) == Verdict::RollBack);
  CHECK(found(decision, Check::StartTime)->subject == "p50 template");
}

TEST_CASE("one value that is not finite rolls back, unless the champion gives them too") {
  RolloutSnapshot snapshot = healthy();
  Stream stream(1);
  observe(snapshot.challenger, giving(kNoNumber), stream, 1);
  CHECK(judge({}, snapshot).move == Move::RollBack);
  CHECK(verdict_of(judge({}, snapshot), Check::NonFinite) == Verdict::RollBack);
  observe(snapshot.champion, giving(kNoNumber), stream, 2);
  CHECK(judge({}, snapshot).move == Move::Promote);
  observe(snapshot.challenger, giving(kNoNumber), stream, 100);
  CHECK(judge({}, snapshot).move == Move::RollBack);
}

TEST_CASE("a constant output rolls back where the champion's varies") {
  const RolloutPlan plan{.effect_size = 1000};
  const Decision decision = judge(plan, after({}, giving(0), 100));
  CHECK(decision.move == Move::RollBack);
  CHECK(verdict_of(decision, Check::Constant) == Verdict::RollBack);
  CHECK(judge(plan, after(giving(0), giving(0), 1000)).move == Move::Promote);
}

TEST_CASE("a run of the commonest label is no constant yet") {
  const auto label = [](Stream& stream) { return stream.chance(0.01) ? 1.0 : 0.0; };
  RolloutSnapshot snapshot = after({.output = label}, giving(0), 1000);
  REQUIRE(snapshot.champion.outputs.at("score").varied);
  const Decision decision = judge({}, snapshot);
  CHECK(decision.move == Move::Promote);
  CHECK(verdict_of(decision, Check::Constant) == Verdict::Show);
  snapshot = after({.output = label}, giving(0), 5000);
  CHECK(judge({}, snapshot).move == Move::RollBack);
}

TEST_CASE("a value out of its range rolls back; a range covers the columns of its output") {
  RolloutPlan plan;
  plan.ranges["score"] = {.low = -100};
  RolloutSnapshot snapshot = healthy();
  CHECK(judge(plan, snapshot).move == Move::Promote);
  Stream stream(1);
  observe(snapshot.challenger, giving(-100.5), stream, 1);
  const Decision decision = judge(plan, snapshot);
  CHECK(decision.move == Move::RollBack);
  CHECK(found(decision, Check::OutOfRange)->challenger == -100.5);
  CHECK(found(decision, Check::OutOfRange)->margin == -100);

  OutputSummary column("score[1]");
  column.add(-200);
  snapshot = healthy();
  snapshot.challenger.add({.outputs = {&column, 1}});
  CHECK(judge(plan, snapshot).move == Move::RollBack);
  OutputSummary other("scores");
  other.add(-200);
  snapshot = healthy();
  snapshot.challenger.add({.outputs = {&other, 1}});
  CHECK(judge(plan, snapshot).move == Move::Promote);
}

TEST_CASE("a range of an output that was never seen is shown") {
  RolloutPlan plan;
  plan.ranges["scor"] = {.low = 0};
  const Decision decision = judge(plan, healthy());
  CHECK(decision.move == Move::Promote);
  CHECK(verdict_of(decision, Check::OutOfRange) == Verdict::Show);
}

TEST_CASE("a shift beyond the effect size holds until it is approved, or is only shown") {
  RolloutPlan plan;
  CHECK(judge(plan, after({}, shifted_by(0.2), 1000)).move == Move::Promote);
  RolloutSnapshot snapshot = after({}, shifted_by(0.8), 1000);
  CHECK(judge(plan, snapshot).move == Move::Hold);
  CHECK(verdict_of(judge(plan, snapshot), Check::Shift) == Verdict::Hold);
  snapshot.approved = true;
  CHECK(judge(plan, snapshot).move == Move::Promote);
  CHECK(verdict_of(judge(plan, snapshot), Check::Shift) == Verdict::Show);
  snapshot.approved = false;
  plan.on_shift = OnShift::Show;
  CHECK(judge(plan, snapshot).move == Move::Promote);
  CHECK(verdict_of(judge(plan, snapshot), Check::Shift) == Verdict::Show);
}

TEST_CASE("approving a shift overrides no errors and no doubt") {
  RolloutSnapshot snapshot = after({}, {.errors = 0.2, .output = shifted_by(1).output}, 1000);
  snapshot.approved = true;
  CHECK(judge({}, snapshot).move == Move::RollBack);
  snapshot = after({}, shifted_by(1), 99);
  snapshot.approved = true;
  CHECK(judge({}, snapshot).move == Move::Hold);
}

TEST_CASE("a pause holds promotion") {
  RolloutSnapshot snapshot = healthy();
  snapshot.paused = true;
  const Decision decision = judge({}, snapshot);
  CHECK(decision.move == Move::Hold);
  CHECK(decision.why == "paused");
}

TEST_CASE("with proof asked for, a step holds until the upper bounds lie within the margins") {
  const RolloutPlan plan{.latency_margin = 0.3, .pass_on = PassOn::Proof};
  CHECK(judge(plan, after({}, {}, 200)).move == Move::Hold);
  CHECK(judge(plan, after({}, {}, 4000)).move == Move::Promote);
}

TEST_CASE("at 100 %, where the champion's numbers grow no more, doubt is shown and holds nothing") {
  RolloutSnapshot snapshot = healthy();
  snapshot.champion.errors = 0;
  snapshot.challenger.errors = 14;
  snapshot.step = 4;
  CHECK(judge({}, snapshot).move == Move::Done);
  CHECK(verdict_of(judge({}, snapshot), Check::Errors) == Verdict::Show);
  snapshot.challenger.errors = 200;
  CHECK(judge({}, snapshot).move == Move::RollBack);
}

TEST_CASE("what shadows agree on is shown") {
  RolloutSnapshot snapshot = healthy();
  CHECK(found(judge({}, snapshot), Check::Agreement) == nullptr);
  snapshot.challenger.agreement = {.compared = 100, .agreed = 97, .max_difference = 0.5};
  const Decision decision = judge({}, snapshot);
  CHECK(decision.move == Move::Promote);
  CHECK(verdict_of(decision, Check::Agreement) == Verdict::Show);
}

TEST_CASE("a decision is the same after a restart and is recorded with its numbers") {
  const RolloutSnapshot snapshot = after({.errors = 0.02}, {.errors = 0.05}, 700);
  const auto restarted = parse_snapshot(to_json(snapshot));
  REQUIRE(restarted.has_value());
  const std::string record = to_json(judge({}, snapshot));
  CHECK(record == to_json(judge({}, *restarted)));
  const auto json = parse_json(record, "decision");
  REQUIRE(json.has_value());
  for (const Json& finding : json->at("findings")) {
    CHECK_FALSE(finding.at("text").get<std::string>().empty());
    if (finding.at("check") == "errors") CHECK(finding.at("margin") == 0.01);
  }
  MESSAGE(json->at("why").get<std::string>());
  // Bounds that nothing is known of are null.
  const std::string few = to_json(judge({}, after({}, {}, 1)));
  CHECK(few.find(R"("high":null)") != std::string::npos);
}

TEST_CASE("every check, verdict and move has a name of its own") {
  CHECK(slug(Check::Agreement) == "agreement");
  CHECK(slug(Check::RunTime) == "run_time");
  CHECK(to_string(Verdict::RollBack) == "rollback");
  CHECK(to_string(Move::Done) == "done");
}

TEST_CASE("with the defaults, 40 whole rollouts of an equal version all end, none rolled back") {
  const RolloutPlan plan;
  const Version version{.errors = 0.01};
  int looks = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Stream stream(seed);
    RolloutSnapshot snapshot = enter_step(plan, {}, 0);
    Decision decision;
    for (int look = 0; look < 400 && decision.move != Move::Done; ++look) {
      const bool alone = snapshot.step == 4;
      observe(snapshot.champion, version, stream, alone ? 0 : 50);
      observe(snapshot.challenger, version, stream, 50);
      snapshot.time_in_step += 5min;
      decision = judge(plan, snapshot);
      ++looks;
      CAPTURE(seed);
      CAPTURE(decision.why);
      REQUIRE(decision.move != Move::RollBack);
      if (decision.move == Move::Promote) snapshot = enter_step(plan, snapshot, decision.step);
    }
    CHECK(decision.move == Move::Done);
  }
  MESSAGE((looks / 40) << " looks a rollout, of 10 at best");
}

TEST_CASE("harm is rolled back within a stated number of requests of each version") {
  struct Harm {
    Version champion;
    Version challenger;
    int most;
  };
  for (const Harm& harm :
       {Harm{{}, {.errors = 0.3}, 200}, Harm{{.errors = 0.05}, {.errors = 0.1}, 6000},
        Harm{{}, {.run = 2600us}, 1000}, Harm{{}, {.run = 4ms}, 100}}) {
    int slowest = 0;
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      const auto ended = rolled_back_after(harm.champion, harm.challenger, seed, harm.most);
      slowest = std::max(slowest, ended.value_or(harm.most + 1));
    }
    MESSAGE(slowest << " of " << harm.most);
    CHECK(slowest <= harm.most);
  }
}

}  // namespace mayfly::rollout
