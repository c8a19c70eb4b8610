#include "training/train_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

constexpr Duration kShortestKeep = std::chrono::seconds(1);
constexpr Duration kLongestKeep = std::chrono::days(365);
constexpr std::size_t kMostNames = 4096;

void read_name_list(JsonReader& reader, const char* key, std::vector<std::string>& names) {
  const Json* list = reader.value(key);
  if (list == nullptr) return;
  if (!list->is_array() || list->size() > kMostNames)
    return reader.error(key, "must be a list of columns");
  for (const Json& name : *list) {
    if (!name.is_string()) return reader.error(key, "must be a list of columns");
    names.push_back(name.get<std::string>());
  }
}

// "credit", "credit@3"
Result<DataRef> read_data(std::string_view text) {
  const std::size_t at = text.find('@');
  DataRef data{.dataset = std::string(text.substr(0, at)), .snapshot = 0};
  if (at != std::string_view::npos) {
    const std::string_view number = text.substr(at + 1);
    const char* last = number.data() + number.size();
    const auto [end, error] = std::from_chars(number.data(), last, data.snapshot);
    if (error != std::errc() || end != last || data.snapshot == 0) data.dataset.clear();
  }
  if (!data.dataset.empty()) return data;
  return refuse(reason::kBadRequest,
                fmt::format("training: data must be a dataset or a snapshot of one, as in credit "
                            "or credit@3, not '{}'",
                            text.substr(0, 100)));
}

Status read_budget(const Json& json, TrainBudget& budget) {
  JsonReader reader(json, "training: budget", reason::kBadRequest);
  reader.integer("trials", budget.trials, 1U, kMostTrials)
      .duration("time", budget.time, std::chrono::seconds(1), kLongestKeep);
  if (const Json* cost = reader.value("cost")) {
    budget.cost = cost->is_number() ? cost->get<double>() : 0;
    if (!(budget.cost > 0 && budget.cost < 1e12)) reader.error("cost", "must be a number above 0");
  }
  return reader.finish();
}

Json describe_goal(const Goal& goal) {
  return {{"metric", goal.metric}, {"at", goal.at}, {"direction", goal.higher ? ">=" : "<="}};
}

Json describe_left_out(const std::vector<LeftOutColumn>& columns) {
  Json list = Json::array();
  for (const LeftOutColumn& one : columns)
    list.push_back({{"column", one.column}, {"why", one.why}});
  return list;
}

std::unexpected<Error> broken_plan(std::string_view what) {
  return fail(Code::DataLoss, fmt::format("the plan of the training is damaged: {}", what));
}

Result<std::vector<LeftOutColumn>> read_left_out(const Json* list) {
  std::vector<LeftOutColumn> columns;
  if (list == nullptr || !list->is_array()) return broken_plan("left_out");
  for (const Json& item : *list) {
    LeftOutColumn one;
    JsonReader reader(item, "left_out", reason::kInternal);
    reader.text("column", one.column).text("why", one.why);
    TRY(reader.finish());
    columns.push_back(std::move(one));
  }
  return columns;
}

Result<search::HalvingPlan> read_halving(const Json* json) {
  search::HalvingPlan plan{.trials = 1, .eta = 3, .resources = {}};
  if (json == nullptr) return broken_plan("halving");
  JsonReader reader(*json, "halving", reason::kInternal);
  reader.integer("trials", plan.trials, 1U, kMostTrials).integer("eta", plan.eta, 2U, 100U);
  const Json* rungs = reader.value("rungs");
  TRY(reader.finish());
  if (rungs == nullptr || !rungs->is_array()) return broken_plan("rungs");
  for (const Json& rung : *rungs) {
    if (!rung.is_number_unsigned()) return broken_plan("rungs");
    plan.resources.push_back(rung.get<std::uint32_t>());
  }
  TRY(search::check(plan));
  return plan;
}

Result<WarmStart> read_warm_start(const Json& json) {
  WarmStart start;
  JsonReader reader(json, "warm_start", reason::kInternal);
  reader.text("version", start.version);
  const Json* params = reader.value("params");
  TRY(reader.finish());
  if (params == nullptr || !params->is_object()) return broken_plan("warm_start");
  start.params = *params;
  return start;
}

// Who names a goal and no way to it wants one to be found.
bool goal_is_searched_for(const TrainWish& wish) {
  const auto trainer = parse_trainer(wish.trainer);
  return !wish.goal.empty() && wish.params.empty() && trainer && !default_space(*trainer).empty();
}

}  // namespace

Result<TrainWish> parse_train_wish(const Json& json) {
  TrainWish wish;
  std::string data;
  JsonReader reader(json, "training", reason::kBadRequest);
  reader.text("data", data)
      .text("trainer", wish.trainer)
      .text("function", wish.function)
      .text("target", wish.target)
      .text("task", wish.task)
      .text("metric", wish.metric)
      .text("positive", wish.positive)
      .text("group", wish.group)
      .text("goal", wish.goal)
      .text("sampler", wish.sampler)
      .integer("threads", wish.threads, 1U, 1024U)
      .integer("workers", wish.workers, 1U, kMostWorkers)
      .bytes("memory", wish.memory, mib(64), gib(std::uint64_t{1} << 20))
      .boolean("baseline", wish.baseline)
      .boolean("deploy", wish.deploy)
      .boolean("warm_start", wish.warm_start)
      .duration("max_age", wish.max_age, kShortestKeep, kLongestKeep)
      .duration("keep_for", wish.keep, kShortestKeep, kLongestKeep);
  read_name_list(reader, "columns", wish.columns);
  read_name_list(reader, "drop", wish.drop);
  if (const Json* seed = reader.value("seed")) {
    if (seed->is_number_unsigned()) {
      wish.seed = seed->get<std::uint64_t>();
    } else {
      reader.error("seed", "must be a whole number from 0 on");
    }
  }
  const Json* params = reader.value("params");
  const Json* space = reader.value("space");
  const Json* budget = reader.value("budget");
  const bool said = json.is_object() && json.contains("search");
  reader.boolean("search", wish.search);
  TRY(reader.finish());
  wish.data = TRY(read_data(data));
  if (params != nullptr) wish.params = *params;
  if (!wish.params.is_object())
    return refuse(reason::kBadRequest, "training: params must be an object");
  if (space != nullptr) wish.space = TRY(search::parse_space(*space));
  if (budget != nullptr) TRY(read_budget(*budget, wish.budget));
  if (!said) wish.search = goal_is_searched_for(wish);
  return wish;
}

std::string_view to_string(Sampler sampler) { return sampler == Sampler::Tpe ? "tpe" : "random"; }

std::optional<Sampler> parse_sampler(std::string_view text) {
  for (const Sampler sampler : {Sampler::Random, Sampler::Tpe})
    if (text == to_string(sampler)) return sampler;
  return std::nullopt;
}

std::uint32_t TrainPlan::rounds_of(std::uint32_t rung) const {
  return rung + 1 < halving.resources.size() ? halving.resources[rung] : 0;
}

Json TrainPlan::params_of(std::uint32_t number) const {
  Json params = job.params;
  if (number == 0) return params;
  params.update(number == 1 && warm_start ? warm_start->params
                                          : search::draw(space, job.seed, number));
  return params;
}

Json to_json_value(const TrainPlan& plan) {
  const Json train = Json::parse(to_json(plan.job))["train"];
  Json budget = Json::object();
  if (plan.budget.trials > 0) budget["trials"] = plan.budget.trials;
  if (plan.budget.time > Duration::zero()) budget["time"] = to_string(plan.budget.time);
  if (plan.budget.cost > 0) budget["cost"] = plan.budget.cost;
  Json json{
      {"data", to_json_value(plan.data)},
      {"digest", plan.digest},
      {"rows", {{"train", plan.rows.train}, {"valid", plan.rows.valid}, {"test", plan.rows.test}}},
      {"train", train},
      {"why", plan.why},
      {"metric", plan.rule.name},
      {"left_out", describe_left_out(plan.left_out)},
      {"space", search::to_json(plan.space)},
      {"sampler", to_string(plan.sampler)},
      {"halving",
       {{"trials", plan.halving.trials},
        {"eta", plan.halving.eta},
        {"rungs", plan.halving.resources}}},
      {"budget", std::move(budget)},
      {"interruptible", trainer_info(plan.job.trainer).interruptible},
      {"baseline", plan.baseline},
      {"deploy", plan.deploy}};
  if (plan.goal) json["goal"] = describe_goal(*plan.goal);
  if (plan.warm_start)
    json["warm_start"] = {{"version", plan.warm_start->version},
                          {"params", plan.warm_start->params}};
  if (plan.code) json["code"] = to_json_value(*plan.code);
  return json;
}

std::string to_json(const TrainPlan& plan) { return to_json_value(plan).dump(); }

Result<TrainPlan> parse_train_plan(std::string_view detail) {
  if (detail.size() > kMaxTrainPlan) return broken_plan("it is too long");
  const Json json = TRY(parse_json(detail, "plan"));
  TrainPlan plan;
  plan.data = TRY(parse_data_ref(detail));
  const auto job = TRY(parse_train_job(detail));
  if (!job) return broken_plan("it trains nothing");
  plan.job = *job;
  std::string metric;
  std::string sampler;
  JsonReader reader(json, "plan", reason::kInternal);
  reader.text("digest", plan.digest)
      .text("why", plan.why)
      .text("metric", metric)
      .text("sampler", sampler)
      .boolean("baseline", plan.baseline)
      .boolean("deploy", plan.deploy);
  (void)reader.value("data");
  (void)reader.value("train");
  (void)reader.value("interruptible");  // follows from the trainer
  const Json* rows = reader.value("rows");
  const Json* left_out = reader.value("left_out");
  const Json* space = reader.value("space");
  const Json* halving = reader.value("halving");
  const Json* budget = reader.value("budget");
  const Json* goal = reader.value("goal");
  const Json* warm_start = reader.value("warm_start");
  const Json* code = reader.value("code");
  TRY(reader.finish());
  if (code != nullptr) plan.code = TRY(read_train_code(*code));
  if (rows == nullptr || space == nullptr || budget == nullptr) return broken_plan("rows");
  JsonReader counts(*rows, "rows", reason::kInternal);
  counts.integer("train", plan.rows.train, std::uint64_t{0}, ~std::uint64_t{0})
      .integer("valid", plan.rows.valid, std::uint64_t{0}, ~std::uint64_t{0})
      .integer("test", plan.rows.test, std::uint64_t{0}, ~std::uint64_t{0});
  TRY(counts.finish());
  plan.rule = TRY(metric_rule(plan.job.task, metric));
  plan.left_out = TRY(read_left_out(left_out));
  plan.space = TRY(search::parse_space(*space));
  const auto drawn = parse_sampler(sampler);
  if (!drawn) return broken_plan("sampler");
  plan.sampler = *drawn;
  plan.halving = TRY(read_halving(halving));
  TRY(read_budget(*budget, plan.budget));
  if (warm_start != nullptr) plan.warm_start = TRY(read_warm_start(*warm_start));
  if (goal == nullptr) return plan;
  std::string direction;
  Goal wanted{.metric = {}, .at = 0, .higher = true};
  JsonReader of_goal(*goal, "goal", reason::kInternal);
  of_goal.text("metric", wanted.metric).text("direction", direction);
  const Json* at = of_goal.value("at");
  TRY(of_goal.finish());
  if (at == nullptr || !at->is_number()) return broken_plan("goal");
  wanted.at = at->get<double>();
  wanted.higher = direction == ">=";
  plan.goal = std::move(wanted);
  return plan;
}

}  // namespace mayfly
