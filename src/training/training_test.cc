// Plans, logs and ends of trainings, as values.
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/reason.h"
#include "training/metric_rule.h"
#include "training/outcome.h"
#include "training/search_log.h"
#include "training/train_plan.h"
#include "training/trial_points.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

DatasetSchema credit_schema() {
  return {
      .columns = {{.name = "id", .type = ColumnType::Integer},
                  {.name = "amount", .type = ColumnType::Number},
                  {.name = "rating", .type = ColumnType::Integer},
                  {.name = "photo", .type = ColumnType::Image, .shape = {8, 8, 1}},
                  {.name = "note", .type = ColumnType::Text},
                  {.name = "class", .type = ColumnType::Category, .categories = {"bad", "good"}},
                  {.name = "kind", .type = ColumnType::Category, .categories = {"a", "b", "c"}}},
      .target = "class",
      .event_time = "",
      .split = {.by = SplitBy::Id, .column = "id"}};
}

struct Facts {
  DatasetSchema schema = credit_schema();
  Json statistics = Json::parse(R"({"columns": [
    {"name": "id", "distinct": 1000}, {"name": "amount", "distinct": 900, "min": 1.5, "max": 9.0},
    {"name": "rating", "distinct": 5, "min": 1, "max": 5}, {"name": "photo"},
    {"name": "note", "distinct": 800}, {"name": "class", "distinct": 2},
    {"name": "kind", "distinct": 3}]})");
  Json record;  // of the version that serves
  SnapshotRecord snapshot{.number = 4, .job = "", .digest = sha256("x"), .rows = {700, 100, 200}};

  std::optional<TrainCode> code = {};
  Bytes code_memory = {};

  Result<TrainPlan> settle(const std::string& wish) {
    const auto parsed = parse_train_wish(Json::parse(wish));
    if (!parsed) return std::unexpected(parsed.error());
    return mayfly::settle(*parsed, {.snapshot = snapshot,
                                    .schema = schema,
                                    .statistics = statistics,
                                    .cpus = 4,
                                    .memory = gib(4),
                                    .seed = 77,
                                    .serving = "credit@3",
                                    .record = record,
                                    .code = code,
                                    .code_memory = code_memory,
                                    .shipped = "mayfly.cnn"});
  }
  std::string refusal(const std::string& wish) {
    const auto plan = settle(wish);
    REQUIRE_MESSAGE(!plan.has_value(), wish);
    return plan.error().message;
  }
};

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TrainPlan a_plan(std::uint32_t trials, const std::string& goal = "") {
  Facts facts;
  const std::string wished = goal.empty() ? "" : R"(, "goal": ")" + goal + R"(")";
  auto plan = facts.settle(R"({"data": "credit", "drop": ["photo"], "search": true, "seed": 5,
      "budget": {"trials": )" +
                           std::to_string(trials) + "}" + wished + "}");
  REQUIRE_MESSAGE(plan.has_value(), plan.error().message);
  return *std::move(plan);
}

TrialEnd end_of(search::Work work, double value, double half = 0.05) {
  return {.work = work, .job = "j", .said = {value, value - half, value + half}};
}

// As good as its number says; more of the resource is better.
double value_of(search::Work work) {
  return 0.5 + 0.3 * static_cast<double>((work.trial * 37) % 101) / 101 + 0.01 * work.rung;
}

}  // namespace

TEST_CASE("a goal without a way to it is searched for") {
  Facts facts;
  const auto searches = [&](const std::string& more) {
    const auto plan = facts.settle(R"({"data": "credit", "drop": ["photo"])" + more + "}");
    REQUIRE_MESSAGE(plan.has_value(), plan.error().message);
    return plan->searches();
  };
  CHECK(searches(R"(, "goal": "auc >= 0.7")"));
  CHECK_FALSE(searches(R"(, "goal": "auc >= 0.7", "search": false)"));
  CHECK_FALSE(searches(R"(, "goal": "auc >= 0.7", "params": {"max_depth": 4})"));
  CHECK(searches(R"(, "goal": "auc >= 0.7", "params": {"max_depth": 4}, "search": true)"));
  CHECK_FALSE(searches(""));
}

TEST_CASE("what is not said of a training follows from its data") {
  Facts facts;
  const auto plan = facts.settle(R"({"data": "credit", "drop": ["photo"]})");
  REQUIRE_MESSAGE(plan.has_value(), plan.error().message);
  CHECK(plan->data == DataRef{"credit", 4});
  CHECK(plan->job.task == TrainTask::Binary);
  CHECK(plan->job.target == "class");
  CHECK(plan->rule.name == "auc");
  CHECK(plan->job.columns == std::vector<std::string>{"amount", "rating", "note", "kind"});
  REQUIRE(plan->left_out.size() == 2);
  CHECK(plan->left_out[0].column == "id");  // rows are split by it
  CHECK(plan->job.seed == 77);
  CHECK(plan->job.threads == 4);
  CHECK_FALSE(plan->searches());
  const auto of = [&](const char* target) {
    const auto found = facts.settle(std::string(R"({"data": "credit", "drop": ["photo"],
        "target": ")") + target + "\"}");
    REQUIRE_MESSAGE(found.has_value(), found.error().message);
    return std::pair(found->job.task, found->rule.name);
  };
  CHECK(of("amount") == std::pair(TrainTask::Regression, std::string("rmse")));
  CHECK(of("kind") == std::pair(TrainTask::Multiclass, std::string("log_loss")));
  CHECK(of("rating") == std::pair(TrainTask::Multiclass, std::string("log_loss")));
  CHECK(of("id").first == TrainTask::Regression);
}

TEST_CASE("a plan says which code trains, of a function's version") {
  const std::string wish = R"({"data": "credit", "trainer": "function", "function": "own"})";
  Facts facts;
  Manifest manifest;
  manifest.files = {{"function.py", std::string(64, 'a'), 10}};
  manifest.environment = {.digest = std::string(64, 'e'),
                          .lock =
                              "numpy==2.2.6 --hash=sha256:00\n"
                              "# debian: libc6 2.36-9 amd64 sha256:11\n"};
  facts.code = train_code("own@3", manifest);
  facts.code_memory = gib(3);
  const auto plan = facts.settle(wish);
  REQUIRE_MESSAGE(plan.has_value(), plan.error().message);
  CHECK(plan->job.function == "own@3");
  CHECK(plan->job.memory == gib(3));
  CHECK(plan->code->packages ==
        std::vector<std::string>{"numpy==2.2.6", "debian: libc6 2.36-9 amd64"});
  CHECK(plan->code->artifact == artifact_digest(manifest.files));
  // Images and all: it takes what it likes.
  CHECK(plan->job.columns.size() == 5);
  const auto again = parse_train_plan(to_json(*plan));
  REQUIRE_MESSAGE(again.has_value(), again.error().message);
  CHECK(again->code == facts.code);
  facts.code_memory = gib(100);  // jobs have less
  CHECK(facts.settle(wish)->job.memory == gib(4));
}

TEST_CASE("cnn learns from the one column of images, with all of its parameters") {
  Facts facts;
  const auto plan = facts.settle(R"({"data": "credit", "trainer": "cnn", "target": "kind",
      "columns": ["photo"], "params": {"width": 8}})");
  REQUIRE_MESSAGE(plan.has_value(), plan.error().message);
  CHECK(plan->job.function == "mayfly.cnn");
  CHECK_FALSE(plan->code.has_value());
  CHECK(plan->job.params.size() == trainer_info(TrainerKind::Cnn).params.size());
  CHECK(plan->job.params["width"] == 8);
  CHECK_FALSE(plan->baseline);  // nothing linear learns from images
  const auto again = parse_train_plan(to_json(*plan));
  REQUIRE_MESSAGE(again.has_value(), again.error().message);
  CHECK(to_json(*again) == to_json(*plan));
  CHECK(has(facts.refusal(R"({"data": "credit", "trainer": "cnn", "target": "kind"})"),
            "cnn cannot learn from column 'amount', which is of type number; it takes image"));
  CHECK(has(facts.refusal(R"({"data": "credit", "target": "kind", "columns": ["photo"]})"),
            "xgboost cannot learn from column 'photo'"));
  CHECK(has(facts.refusal(R"({"data": "credit", "trainer": "cnn", "target": "amount",
      "columns": ["photo"]})"),
            "cnn does no regression"));
  CHECK(has(facts.refusal(R"({"data": "credit", "trainer": "cnn", "function": "own",
      "target": "kind", "columns": ["photo"]})"),
            "the trainer is 'function' then"));
  facts.schema.columns.push_back({.name = "second", .type = ColumnType::Image, .shape = {8, 8, 1}});
  CHECK(has(facts.refusal(R"({"data": "credit", "trainer": "cnn", "target": "kind",
      "columns": ["photo", "second"]})"),
            "cnn learns from one column of images"));
}

TEST_CASE("a plan says of a fit that nothing interrupts that it is one slice") {
  Facts facts;
  const auto plan_of = [&](const char* trainer) {
    const auto plan = facts.settle(
        std::string(R"({"data": "credit", "drop": ["photo"], "trainer": ")") + trainer + "\"}");
    REQUIRE_MESSAGE(plan.has_value(), plan.error().message);
    return to_json_value(*plan);
  };
  CHECK(plan_of("linear")["interruptible"] == false);
  CHECK(plan_of("xgboost")["interruptible"] == true);
}

TEST_CASE("a plan comes back from its job as it was") {
  for (const std::string goal : {"", "auc >= 0.7"}) {
    const TrainPlan plan = a_plan(27, goal);
    const auto again = parse_train_plan(to_json(plan));
    REQUIRE_MESSAGE(again.has_value(), again.error().message);
    CHECK(to_json(*again) == to_json(plan));
    CHECK(again->goal == plan.goal);
    CHECK(again->space == plan.space);
    CHECK(again->job == plan.job);
  }
  CHECK_FALSE(parse_train_plan("{}").has_value());
  CHECK_FALSE(parse_train_plan("[").has_value());
}

TEST_CASE("what can never be is refused before anything runs, in words that say what can") {
  Facts facts;
  const auto of = [&](const std::string& more) {
    return facts.refusal(R"({"data": "credit", "drop": ["photo"])" + more + "}");
  };
  CHECK(has(facts.refusal(R"({"data": "credit"})"), "cannot learn from column 'photo'"));
  CHECK(has(facts.refusal(R"({"data": "credit@x"})"), "credit@3"));
  CHECK(has(facts.refusal(R"({"date": "credit"})"), "date"));
  CHECK(has(of(R"(, "target": "nope")"), "there are id, amount"));
  CHECK(has(of(R"(, "target": "note")"), "must be a category or a number"));
  CHECK(has(of(R"(, "task": "regression")"), "must be a number"));
  CHECK(has(of(R"(, "task": "binary", "target": "kind")"), "multiclass"));
  CHECK(has(of(R"(, "task": "guess")"), "clustering"));
  CHECK(has(of(R"(, "trainer": "forest")"), "xgboost, linear, kmeans"));
  CHECK(has(of(R"(, "trainer": "linear", "task": "ranking", "group": "kind", "target": "rating")"),
            "linear does no ranking"));
  CHECK(has(of(R"(, "metric": "rmse")"), "auc (higher)"));
  CHECK(has(of(R"(, "goal": "auc")"), "auc >= 0.70"));
  CHECK(has(of(R"(, "goal": "auc <= 0.7")"), "higher is better"));
  CHECK(has(of(R"(, "goal": "log_loss >= 0.7")"), "lower is better"));
  CHECK(has(of(R"(, "goal": "auc >= 1.2")"), "between 0 and 1"));
  CHECK(has(of(R"(, "goal": "gini >= 0.2")"), "no metric"));
  CHECK(has(of(R"(, "goal": "auc >= 0.7", "metric": "f1")"), "go by one"));
  CHECK(has(of(R"(, "params": {"depth": 3})"), "there is no parameter 'depth'"));
  CHECK(has(of(R"(, "search": true, "space": {"eta": {"low": 0.1, "high": 7}})"), "eta"));
  CHECK(has(of(R"(, "search": true, "space": {"rounds": {"low": 1, "high": 7}})"), "rounds"));
  CHECK(has(of(R"(, "space": {"eta": {"low": 0.1, "high": 0.7}})"), "say search"));
  CHECK(has(of(R"(, "budget": {"trials": 3})"), "say search"));
  CHECK(has(of(R"(, "search": true, "budget": {"trials": 0})"), "trials"));
  CHECK(has(of(R"(, "threads": 9)"), "jobs.cpus"));
  CHECK(has(of(R"(, "memory": "9GiB")"), "jobs.memory"));
  CHECK(has(of(R"(, "trainer": "kmeans", "search": true, "columns": ["amount"])"), "space"));
  CHECK(has(of(R"(, "columns": ["class"])"), "is the target"));
  CHECK(has(of(R"(, "positive": "great")"), "has no value 'great'"));
  facts.snapshot.rows.valid = 0;
  CHECK(has(of(""), "0 to validate with"));
}

TEST_CASE("a recommendation is settled: users, items, and amounts only where they are named") {
  Facts facts;
  facts.schema.split = {.by = SplitBy::Content, .column = ""};
  const auto plan = facts.settle(
      R"({"data": "shop", "trainer": "mf", "target": "note", "group": "id", "goal": "recall_at_10 >= 0.3"})");
  REQUIRE_MESSAGE(plan.has_value(), plan.error().message);
  CHECK(plan->job.task == TrainTask::Recommendation);
  CHECK(plan->rule.name == "recall_at_10");
  CHECK(plan->job.columns.empty());
  CHECK(plan->job.threads == 1);
  CHECK(plan->left_out.size() == 5);
  CHECK(parse_train_plan(to_json(*plan)).has_value());
  const auto of = [&](const std::string& more) {
    return facts.refusal(R"({"data": "shop", "trainer": "mf")" + more + "}");
  };
  const std::string pairs = R"(, "target": "note", "group": "id")";
  CHECK(has(of(R"(, "target": "note")"), "needs a group"));
  CHECK(has(of(R"(, "target": "id", "group": "id")"), "both the users and the items"));
  CHECK(has(of(R"(, "target": "amount", "group": "id")"), "of type number"));
  CHECK(has(of(R"(, "target": "note", "group": "photo")"), "of type image"));
  CHECK(has(of(pairs + R"(, "columns": ["kind"])"), "cannot learn from column 'kind'"));
  CHECK(has(of(pairs + R"(, "columns": ["amount", "rating"])"), "2 were named"));
  CHECK(has(of(pairs + R"(, "columns": ["id"])"), "'id' is the group"));
  CHECK(has(of(R"(, "target": "class", "group": "id", "task": "binary")"), "mf does no binary"));
  CHECK(has(of(pairs + R"(, "metric": "auc")"), "recall_at_10 (higher), ndcg_at_10 (higher)"));
  CHECK(has(of(pairs + R"(, "goal": "recall_at_10 >= 2")"), "between 0 and 1"));
  const auto amounts =
      facts.settle(R"({"data": "shop", "trainer": "mf", "columns": ["amount"])" + pairs + "}");
  REQUIRE_MESSAGE(amounts.has_value(), amounts.error().message);
  CHECK(amounts->job.columns == std::vector<std::string>{"amount"});
  CHECK(has(facts.refusal(R"({"data": "shop", "task": "recommendation")" + pairs + "}"),
            "xgboost does no recommendation"));
  const auto search =
      facts.settle(R"({"data": "shop", "trainer": "mf", "search": true)" + pairs + "}");
  REQUIRE_MESSAGE(search.has_value(), search.error().message);
  CHECK(search->space.size() == 3);
  facts.schema.split = {.by = SplitBy::Id, .column = "id"};
  CHECK(has(of(pairs), "rows are split by 'id'"));
  facts.schema.split = {.by = SplitBy::Content, .column = ""};
  facts.statistics["columns"][0]["distinct"] = 40'000'000;
  CHECK(has(of(pairs), "an ONNX file holds 2 GiB"));
  facts.statistics["columns"][0]["distinct"] = 1'000'000;
  CHECK(facts.settle(R"({"data": "shop", "trainer": "mf")" + pairs + "}").has_value());
  facts.statistics["columns"][4]["distinct"] = 1;
  CHECK(has(of(pairs), "nothing to choose between"));
}

TEST_CASE("rungs: a ninth, a third and all of the rounds; and the control has what was asked for") {
  const TrainPlan plan = a_plan(27);
  CHECK(plan.halving.resources == std::vector<std::uint32_t>{55, 166, 500});
  CHECK(plan.rounds_of(0) == 55);
  CHECK(plan.rounds_of(2) == 0);  // to its own end
  CHECK(plan.params_of(0).empty());
  CHECK(plan.params_of(3) == a_plan(27).params_of(3));
  CHECK(plan.params_of(3) != plan.params_of(4));
  for (std::uint32_t trial = 1; trial < 200; ++trial)
    CHECK(TrainerParams::parse(TrainerKind::Xgboost, plan.params_of(trial)).has_value());
}

TEST_CASE(
    "a search begins with what the serving version was trained with, where that can be said") {
  Facts facts;
  const std::string wish = R"({"data": "credit", "drop": ["photo"], "search": true, "seed": 5)";
  const auto first_drawn = facts.settle(wish + "}")->params_of(1);
  facts.record = Json::parse(R"({"trainer": {"kind": "xgboost",
      "params": {"eta": 0.07, "max_depth": 5, "rounds": 900, "other": 1}}})");
  const auto plan = facts.settle(wish + "}");
  REQUIRE_MESSAGE(plan.has_value(), plan.error().message);
  REQUIRE(plan->warm_start.has_value());
  CHECK(plan->warm_start->version == "credit@3");
  CHECK(plan->params_of(1) == Json{{"eta", 0.07}, {"max_depth", 5}});  // not its rounds
  CHECK(plan->params_of(0) == Json::object());
  const auto again = parse_train_plan(to_json(*plan));
  REQUIRE(again.has_value());
  CHECK(again->warm_start == plan->warm_start);
  // The others are as they were.
  const auto cold = facts.settle(wish + R"(, "warm_start": false})");
  CHECK_FALSE(cold->warm_start.has_value());
  CHECK(cold->params_of(1) == first_drawn);
  CHECK(cold->params_of(2) == plan->params_of(2));
  // Records come from elsewhere, too.
  for (const char* record :
       {"null", "[]", "{}", R"({"trainer": 3})", R"({"trainer": {"kind": "linear"}})",
        R"({"trainer": {"kind": "xgboost", "params": []}})",
        R"({"trainer": {"kind": "xgboost", "params": {"eta": "much"}}})",
        R"({"trainer": {"kind": "xgboost", "params": {"max_depth": -4}}})",
        R"({"trainer": {"kind": "xgboost", "function": "a@1", "params": {"eta": 0.1}}})"}) {
    facts.record = Json::parse(record);
    const auto careful = facts.settle(wish + "}");
    REQUIRE_MESSAGE(careful.has_value(), record);
    CHECK_MESSAGE(!careful->warm_start.has_value(), record);
  }
}

TEST_CASE("a trial's configuration hangs on all ends up to the eighth before it, in any order") {
  TrainPlan plan = a_plan(60);
  plan.sampler = Sampler::Tpe;
  CHECK(parse_train_plan(to_json(plan))->sampler == Sampler::Tpe);
  TrialPoints forwards(plan);
  TrialPoints backwards(plan);
  CHECK(forwards.known(kProposalLag - 1));
  CHECK_FALSE(forwards.known(kProposalLag));
  const auto end = [](std::uint32_t trial) {
    TrialEnd one = end_of({.trial = trial, .rung = 0}, value_of({.trial = trial, .rung = 0}));
    if (trial % 5 == 0) one.said.estimate = std::numeric_limits<double>::quiet_NaN();
    return one;
  };
  for (std::uint32_t trial = 0; trial < 30; ++trial) forwards.add(end(trial));
  for (std::uint32_t trial = 40; trial-- > 0;) backwards.add(end(trial));
  forwards.add(end_of({.trial = 35, .rung = 1}, 0.9));  // of another rung
  CHECK(forwards.known(37));
  CHECK_FALSE(forwards.known(38));
  for (const std::uint32_t trial : {37U, 1U, 20U}) CHECK(forwards.of(trial) == backwards.of(trial));
  CHECK(forwards.of(0) == plan.job.params);
  CHECK(forwards.of(5) == plan.params_of(5));    // too few have ended
  CHECK(forwards.of(31) != plan.params_of(31));  // suggested
}

TEST_CASE("the same results decide the same, in whatever order they came") {
  const TrainPlan plan = a_plan(27, "auc >= 0.74");
  std::vector<TrialEnd> all;
  search::Halving alone(plan.halving);
  while (const auto work = alone.next()) {
    all.push_back(end_of(*work, value_of(*work), 0.02));
    alone.report({*work, loss_of(plan.rule, all.back())});
  }
  const Verdict expected = judge(plan, {.ends = all});
  CHECK(expected.end == SearchEnd::Goal);
  CHECK(expected.candidates < all.size());
  for (unsigned seed = 1; seed < 30; ++seed) {
    std::mt19937 random(seed);
    SearchLog log{.ends = all};
    std::ranges::shuffle(log.ends, random);
    const Verdict verdict = judge(plan, log);
    CHECK(verdict.best->work == expected.best->work);
    CHECK(verdict.candidates == expected.candidates);
    CHECK(verdict.bound == expected.bound);
  }
}

TEST_CASE("a bound is corrected for all candidates that were looked at") {
  const TrainPlan plan = a_plan(27, "auc >= 0.7");
  // Alone it would do: 0.75 less 0.045.
  const Verdict alone = judge(plan, {.ends = {end_of({0, 0}, 0.75, 0.045)}});
  CHECK(alone.end == SearchEnd::Goal);
  SearchLog log;
  for (std::uint32_t trial = 0; trial < 20; ++trial)
    log.ends.push_back(end_of({trial, 0}, trial == 19 ? 0.75 : 0.6, 0.045));
  const Verdict verdict = judge(plan, log);
  CHECK(verdict.end == SearchEnd::NotYet);
  CHECK(verdict.candidates == 20);
  CHECK(*verdict.bound < 0.7);
  CHECK(*verdict.bound < *alone.bound);
}

TEST_CASE(
    "a budget that is used up ends a search with the best there is, and a replay ends alike") {
  TrainPlan plan = a_plan(27);
  SearchLog log;
  for (const std::uint32_t trial : {3U, 0U, 7U, 2U})  // as they came
    log.ends.push_back(end_of({trial, 0}, value_of({trial, 0})));
  CHECK(judge(plan, log).end == SearchEnd::NotYet);
  log.stopped = "time";
  log.stopped_after = 4;
  const Verdict verdict = judge(plan, log);
  CHECK(verdict.end == SearchEnd::Budget);
  CHECK(verdict.best->work.trial == 2);     // 0.5 + 0.3 * 74 / 101
  log.ends.push_back(end_of({0, 1}, 0.1));  // the control goes to its end
  const auto decisions = parse_decisions(decisions_of(plan, log));
  REQUIRE_MESSAGE(decisions.has_value(), decisions.error().message);
  const Verdict again = judge(decisions->plan, decisions->log);
  CHECK(again.end == SearchEnd::Budget);
  CHECK(again.best->work == judge(plan, log).best->work);
  CHECK(decisions_of(decisions->plan, decisions->log) == decisions_of(plan, log));
}

TEST_CASE("a log comes back from its checkpoint; failures stay failures") {
  SearchLog log{.ends = {end_of({0, 0}, 0.7), end_of({1, 0}, std::nan(""))}, .elapsed = 7s};
  log.ends[1].reason = reason::kOutOfMemory;
  log.ends[1].error = "it took \"more\"";
  log.ends[0].heading = 0.8;
  const auto again = parse_search_log(to_json(log));
  REQUIRE_MESSAGE(again.has_value(), again.error().message);
  CHECK(to_json(*again) == to_json(log));
  CHECK(std::isnan(again->ends[1].said.estimate));
  const MetricRule rule = a_plan(2).rule;
  CHECK(outcome_of(rule, again->ends[0]).loss == -0.7);
  CHECK(outcome_of(rule, again->ends[0]).heading == -0.8);
  CHECK_FALSE(outcome_of(rule, again->ends[1]).heading.has_value());
  const Verdict verdict = judge(a_plan(2), *again);
  CHECK(verdict.best->work.trial == 0);
  for (const char* damaged : {"", "{}", R"({"ends": 3, "elapsed_ms": 1})",
                              R"({"ends": [{"trial": -1}], "elapsed_ms": 1})"})
    CHECK_FALSE(parse_search_log(damaged).has_value());
}

TEST_CASE("what the test split says of a goal") {
  const TrainPlan plan = a_plan(27, "auc >= 0.7");
  const auto of = [&](double value, double low, double high) {
    return conclude(plan, TestLookResult{.said = {value, low, high}, .rows = 200});
  };
  CHECK(of(0.8, 0.71, 0.87).outcome == kGoalReached);
  CHECK(of(0.8, 0.71, 0.87).registers());
  CHECK(of(0.6, 0.5, 0.69).outcome == kGoalNotReached);
  const Conclusion open = of(0.75, 0.66, 0.82);
  CHECK(open.outcome == kDataTooSmall);
  CHECK_FALSE(open.registers());
  CHECK(open.rows_to_decide == 648);  // 200 × (0.09 / 0.05)²
  CHECK(has(open.why, "about 648 test rows"));
  CHECK(conclude(plan, std::nullopt).outcome == kDataTooSmall);
  CHECK(conclude(plan, TestLookResult{.rows = 3}).outcome == kDataTooSmall);
  CHECK(conclude(a_plan(27), std::nullopt).outcome == kFinished);
}

TEST_CASE("ids of parts follow from the training's, and look like any") {
  const std::string whole = "01a208f9-9c6f-7000-85e7-6c26e82fe10b";
  std::set<std::string> seen;
  for (std::uint32_t trial = 0; trial < 100; ++trial)
    for (const std::uint32_t rung : {0U, 1U, 2U})
      seen.insert(part_id(whole, part_of({trial, rung})));
  CHECK(seen.size() == 300);
  const std::string id = part_id(whole, "score");
  CHECK(id == part_id(whole, "score"));
  CHECK(id.starts_with("01a208f9-9c6f-7"));
  CHECK(id.size() == whole.size());
  CHECK(std::string_view("89ab").contains(id[19]));
}
