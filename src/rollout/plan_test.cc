#include "rollout/plan.h"

#include <string>
#include <string_view>

#include <doctest/doctest.h>

namespace mayfly::rollout {
namespace {

using namespace std::chrono_literals;

std::string complaint_about(std::string_view json) {
  const auto plan = parse_plan(json);
  return plan ? "" : plan.error().message;
}

bool mentions(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

TEST_CASE("an empty plan is the default: shadow, 1, 5, 25, 100 %, holding in doubt") {
  const auto plan = parse_plan("{}");
  REQUIRE(plan.has_value());
  CHECK(*plan == RolloutPlan{});
  CHECK(
      to_json(*plan) ==
      R"({"steps":["shadow",1,5,25,100],"min_samples":100,"min_time":"10m","alpha":0.05,)"
      R"("error_margin":0.01,"latency_margin":0.1,"latency_floor":"100us","effect_size":0.5,)"
      R"("pass_on":"no_harm","on_shift":"hold","on_silence":"hold","silence_limit":"24h","max_wait":"1h",)"
      R"("ranges":{}})");
}

TEST_CASE("every key of a plan is read and survives a round trip") {
  const auto plan = parse_plan(R"({"steps":["shadow",{"shadow":100},10,100]})");
  CHECK_FALSE(plan.has_value());  // the same step twice does not ascend
  const auto full = parse_plan(
      R"({"steps":[{"shadow":20},"shadow",10,100],"min_samples":7,"min_time":"3s","alpha":0.01,)"
      R"("error_margin":0.5,"latency_margin":0.25,"latency_floor":"0s","effect_size":2,)"
      R"("pass_on":"proof","on_shift":"show","on_silence":"rollback","silence_limit":"1h","max_wait":"0s",)"
      R"("ranges":{"score":[0,1],"price":[0.5,null]}})");
  REQUIRE(full.has_value());
  CHECK(full->steps == std::vector<Step>{{StepKind::Shadow, 20},
                                         {StepKind::Shadow, 100},
                                         {StepKind::Traffic, 10},
                                         {StepKind::Traffic, 100}});
  CHECK(full->min_samples == 7);
  CHECK(full->min_time == 3s);
  CHECK(full->pass_on == PassOn::Proof);
  CHECK(full->on_shift == OnShift::Show);
  CHECK(full->on_silence == OnSilence::RollBack);
  CHECK(full->max_wait == 0s);
  CHECK(full->ranges.at("score") == OutputRange{0, 1});
  CHECK(full->ranges.at("price").high == std::numeric_limits<double>::infinity());
  const auto again = parse_plan(to_json(*full));
  REQUIRE(again.has_value());
  CHECK(*again == *full);
  CHECK(to_string(full->steps[0]) == "shadow 20 %");
  CHECK(to_string(full->steps[3]) == "100 %");
}

TEST_CASE("changes leave the other keys of a plan as they are") {
  const RolloutPlan plan{.min_samples = 3, .alpha = 0.2};
  const auto changed = apply_plan(plan, R"({"alpha":0.1})");
  REQUIRE(changed.has_value());
  CHECK(changed->min_samples == 3);
  CHECK(changed->alpha == 0.1);
}

TEST_CASE("what a plan cannot mean is refused, naming the key") {
  for (const auto& [json, part] : {
           std::pair{R"([])", "must be an object"},
           {R"({"step":[100]})", "unknown key 'step'; known here: steps, min_samples"},
           {R"({"steps":[]})", "'steps'"},
           {R"({"steps":[1,5]})", "must end with 100"},
           {R"({"steps":["shadow"]})", "must end with 100"},
           {R"({"steps":[5,1,100]})", "must ascend"},
           {R"({"steps":[1,"shadow",100]})", "shadows before traffic"},
           {R"({"steps":[0,100]})", "percentages from 1 to 100"},
           {R"({"steps":[1.5,100]})", "percentages from 1 to 100"},
           {R"({"steps":[{"shadow":0},100]})", "percentages from 1 to 100"},
           {R"({"steps":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,100]})", "1 to 20"},
           {R"({"alpha":0})", "'alpha'"},
           {R"({"alpha":"5%"})", "must be a number"},
           {R"({"error_margin":-0.1})", "'error_margin'"},
           {R"({"min_samples":0})", "'min_samples'"},
           {R"({"min_time":5})", "'min_time'"},
           {R"({"on_silence":"promote"})", R"("hold" or "rollback")"},
           {R"({"on_shift":"rollback"})", R"("hold" or "show")"},
           {R"({"pass_on":1})", R"("no_harm" or "proof")"},
           {R"({"pass_on":"proof","steps":[100]})", "a step before 100"},
           {R"({"ranges":{"score":[1,0]}})", "'score'"},
           {R"({"ranges":{"score":[1]}})", "'score'"},
           {R"({"ranges":{"":[0,1]}})", "'ranges'"},
           {R"({"on_silence":"rollback","silence_limit":"1m"})", "shorter than min_time"},
       }) {
    CAPTURE(json);
    CAPTURE(complaint_about(json));
    CHECK(mentions(complaint_about(json), part));
  }
}

}  // namespace mayfly::rollout
