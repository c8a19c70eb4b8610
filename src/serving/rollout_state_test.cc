#include "serving/rollout_state.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "serving/output_summary.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

RolloutState state_of(std::string_view plan) {
  RolloutState state{.champion = {3}, .challenger = {2}};
  state.plan = rollout::parse_plan(plan).value();
  return state;
}

FunctionEntry function_with(std::uint32_t champion, std::string_view traffic) {
  FunctionEntry function{.name = FunctionName::parse("f").value(),
                         .current = {champion},
                         .settings = nullptr,
                         .versions = {}};
  Routing routing;
  routing.traffic = parse_traffic(traffic).value();
  function.routing = std::make_shared<const Routing>(std::move(routing));
  return function;
}

}  // namespace

TEST_CASE("each step of a rollout is a traffic, and a traffic tells its step") {
  const RolloutState state = state_of(R"({"steps":["shadow",5,100]})");
  const auto step = [&](std::uint32_t champion, std::string_view traffic) {
    return step_of(state, function_with(champion, traffic)).value_or(99);
  };
  CHECK(step(3, R"({"shadows":{"2":100}})") == 0);
  CHECK(step(3, R"({"weights":{"2":5,"3":95},"sticky_header":"X-User"})") == 1);
  CHECK(step(2, "{}") == 2);
  CHECK(step(3, "{}") == 99);
  CHECK(step(3, R"({"weights":{"2":6,"3":94}})") == 99);
  CHECK(step(3, R"({"weights":{"2":5,"3":95},"shadows":{"1":1}})") == 99);
  const Traffic now = parse_traffic(R"({"sticky_header":"X-User"})").value();
  CHECK(traffic_of(state, 1, now).traffic.sticky_header == "X-User");
}

TEST_CASE("a rollout survives as text, and what cannot be one is refused") {
  RolloutState state = state_of(R"({"steps":[50,100],"min_samples":7})");
  state.snapshot.step = 1;
  state.snapshot.challenger.requests = 12;
  state.snapshot.paused = true;
  const auto back = parse_rollout_state(to_json(state));
  REQUIRE(back.has_value());
  CHECK(back->plan == state.plan);
  CHECK(back->snapshot == state.snapshot);
  CHECK(back->challenger == state.challenger);
  state.snapshot.step = 2;
  CHECK_FALSE(parse_rollout_state(to_json(state)));
  for (const char* bad : {"", "[]", "{}", R"({"champion":1,"challenger":2})", R"({"champion":0})"})
    CHECK_FALSE(parse_rollout_state(bad));
}

TEST_CASE("short rows are summed up by column, texts and the rest of long tensors are left out") {
  const Signature signature{.inputs = {},
                            .outputs = {{.name = "p", .type = DataType::Fp32, .shape = {-1, 2}},
                                        {.name = "long", .type = DataType::Int8, .shape = {-1}},
                                        {.name = "text", .type = DataType::Bytes, .shape = {1}}}};
  const std::vector<float> scores = {1, 10, 3, std::numeric_limits<float>::quiet_NaN()};
  const std::vector<std::byte> many(5000, std::byte{4});
  const std::vector<OutputView> outputs = {
      {0, DataType::Fp32, {2, 2}, std::as_bytes(std::span(scores))},
      {1, DataType::Int8, {5000}, many},
      {2, DataType::Bytes, {1}, many}};
  const OutputSummaries summaries(signature, outputs);
  const auto all = summaries.all();
  REQUIRE(all.size() == 3);
  CHECK(all[0].name() == "p[0]");
  CHECK(all[0].moments().mean == doctest::Approx(2));
  CHECK(all[1].name() == "p[1]");
  CHECK(all[1].non_finite() == 1);
  CHECK(all[1].moments().mean == doctest::Approx(10));
  CHECK(all[2].name() == "long");
  CHECK(all[2].moments().count == OutputSummaries::kValues);
}
