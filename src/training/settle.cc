// A wish becomes a plan: everything that can be known before a training runs is known here.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/caller_reason.h"
#include "core/reason.h"
#include "core/units.h"
#include "training/recommendation.h"
#include "training/train_plan.h"

namespace mayfly {
namespace {

constexpr std::uint32_t kTrialsOfSearch = 27;
constexpr std::uint32_t kTrialsOfBudget = 243;  // where time or cost bounds them
constexpr std::uint32_t kEta = 3;
constexpr std::uint64_t kMostNumbersAsClasses = 20;
constexpr Bytes kTrialMemory = gib(2);
constexpr std::uint32_t kMostThreads = 1024;

std::unexpected<Error> bad_training(const std::string& what) {
  return refuse(reason::kBadRequest, fmt::format("training: {}", what));
}

std::string names_of(const DatasetSchema& schema) {
  std::string names;
  for (const SchemaColumn& column : schema.columns) {
    if (names.size() > 1000) return names + ", …";
    names += fmt::format("{}{}", names.empty() ? "" : ", ", column.name);
  }
  return names;
}

Result<const SchemaColumn*> column_of(const DatasetSchema& schema, const std::string& name) {
  if (const SchemaColumn* column = schema.find(name)) return column;
  return bad_training(
      fmt::format("there is no column '{}'; there are {}", name.substr(0, 200), names_of(schema)));
}

struct ColumnFacts {
  std::uint64_t distinct = 0;
  double low = 0, high = 0;
};

ColumnFacts facts_of(const Json& statistics, std::string_view name) {
  const auto columns = statistics.is_object() ? statistics.find("columns") : statistics.end();
  if (!statistics.is_object() || columns == statistics.end() || !columns->is_array()) return {};
  for (const Json& column : *columns) {
    if (!column.is_object() || column.value("name", "") != name) continue;
    const auto number = [&](const char* key) {
      const auto found = column.find(key);
      return found != column.end() && found->is_number() ? found->get<double>() : 0.0;
    };
    return {.distinct = static_cast<std::uint64_t>(std::max(0.0, number("distinct"))),
            .low = number("min"),
            .high = number("max")};
  }
  return {};
}

bool is_whole(double value) { return value == std::floor(value); }

struct Inferred {
  TrainTask task;
  std::string why;
};

Result<Inferred> infer_task(const SchemaColumn& target, const ColumnFacts& facts) {
  const auto classes = [&](std::string_view what) {
    return fmt::format("'{}' {} {} different values", target.name, what, facts.distinct);
  };
  switch (target.type) {
    case ColumnType::Category:
      if (facts.distinct < 2)
        return bad_training(
            fmt::format("the target {}: there is nothing to tell apart", classes("holds")));
      return Inferred{facts.distinct == 2 ? TrainTask::Binary : TrainTask::Multiclass,
                      classes("is a category of")};
    case ColumnType::Integer:
      if (facts.distinct == 2) return Inferred{TrainTask::Binary, classes("holds")};
      if (facts.distinct > 2 && facts.distinct <= kMostNumbersAsClasses)
        return Inferred{TrainTask::Multiclass,
                        classes("holds whole numbers, of") + "; amounts would be regression"};
      return Inferred{TrainTask::Regression, fmt::format("'{}' is a number", target.name)};
    case ColumnType::Number:
      if (facts.distinct == 2 && is_whole(facts.low) && is_whole(facts.high))
        return Inferred{TrainTask::Binary, classes("holds")};
      return Inferred{TrainTask::Regression, fmt::format("'{}' is a number", target.name)};
    default:
      return bad_training(
          fmt::format("the target '{}' is of type {}; it must be a category or a number",
                      target.name, to_string(target.type)));
  }
}

// What was asked for and can never be learned from this column.
Status check_target(TrainTask task, const SchemaColumn& target, const ColumnFacts& facts) {
  if (task == TrainTask::Recommendation) return {};  // settle_recommendation says what it can be
  const bool number = target.type == ColumnType::Integer || target.type == ColumnType::Number;
  const bool names = number || target.type == ColumnType::Category;
  if (is_classification(task) ? !names : !number) {
    return bad_training(fmt::format("the target of {} must be {}; '{}' is of type {}",
                                    to_string(task),
                                    is_classification(task) ? "a category or a number" : "a number",
                                    target.name, to_string(target.type)));
  }
  if (task == TrainTask::Binary && target.type == ColumnType::Category && facts.distinct != 2) {
    return bad_training(
        fmt::format("'{}' holds {} different values, and binary needs two: the "
                    "task is multiclass",
                    target.name, facts.distinct));
  }
  return {};
}

ColumnKind kind_of(ColumnType type) {
  return parse_column_kind(to_string(type)).value_or(ColumnKind::Text);
}

// What the wish leaves to be found out.
class Settling {
 public:
  Settling(const TrainWish& wish, const PlanFacts& facts) : wish_(wish), facts_(facts) {}

  Result<TrainPlan> run() {
    plan_.data = {.dataset = wish_.data.dataset, .snapshot = facts_.snapshot.number};
    plan_.digest = to_string(facts_.snapshot.digest);
    plan_.rows = facts_.snapshot.rows;
    plan_.budget = wish_.budget;
    plan_.baseline = wish_.baseline;
    plan_.deploy = wish_.deploy;
    plan_.job.seed = wish_.seed.value_or(facts_.seed);
    TRY(check_rows());
    TRY(settle_trainer());
    TRY(settle_task());
    TRY(settle_columns());
    TRY(settle_metric());
    TRY(settle_resources());
    TRY(settle_search());
    if (to_json(plan_).size() > kMaxTrainPlan)
      return refuse(reason::kTooLarge, "training: its columns and its space are too long");
    return std::move(plan_);
  }

 private:
  Status check_rows() {
    const SnapshotRows& rows = facts_.snapshot.rows;
    if (rows.train > 0 && rows.valid > 0) return {};
    return bad_training(
        fmt::format("{} has {} rows to train on and {} to validate with; both are "
                    "needed",
                    to_string(plan_.data), rows.train, rows.valid));
  }

  Status settle_trainer() {
    const auto kind = parse_trainer(wish_.trainer);
    if (!kind) {
      std::string names;
      for (const TrainerInfo& one : trainer_catalogue())
        names += fmt::format("{}{}", names.empty() ? "" : ", ", to_string(one.kind));
      return bad_training(fmt::format("there is no trainer '{}'; there are {} and function",
                                      wish_.trainer.substr(0, 64), names));
    }
    plan_.job.trainer = *kind;
    plan_.code = facts_.code;
    plan_.job.function = facts_.code ? facts_.code->function : wish_.function;
    const bool named = *kind == TrainerKind::Function;
    if (*kind == TrainerKind::Cnn && !plan_.code) plan_.job.function = facts_.shipped;
    if (named == wish_.function.empty())
      return bad_training(named ? "the trainer 'function' needs 'function': whose train(ctx)"
                                : "'function' names a train(ctx): the trainer is 'function' then");
    plan_.job.params = wish_.params;
    if (named) return {};
    const TrainerParams params = TRY(TrainerParams::parse(*kind, wish_.params));
    if (is_function(*kind)) plan_.job.params = params.to_json();  // it knows no standard ones
    return {};
  }

  Status settle_task() {
    TrainJob& job = plan_.job;
    if (!wish_.task.empty()) {
      const auto task = parse_train_task(wish_.task);
      if (!task)
        return bad_training(
            fmt::format("there is no task '{}'; there are binary, multiclass, "
                        "regression, ranking, clustering and recommendation",
                        wish_.task.substr(0, 64)));
      job.task = *task;
      plan_.why = "it was asked for";
    } else if (job.trainer == TrainerKind::Kmeans) {
      job.task = TrainTask::Clustering;
      plan_.why = "kmeans makes clusters";
    } else if (job.trainer == TrainerKind::Mf) {
      job.task = TrainTask::Recommendation;
      plan_.why = "mf recommends";
    }
    const bool settled = !plan_.why.empty();
    if (settled && job.task == TrainTask::Clustering) {
      if (!wish_.target.empty()) return bad_training("clusters have no target: leave it out");
    } else {
      TRY(settle_target(settled));
    }
    if (job.task == TrainTask::Ranking && wish_.group.empty())
      return bad_training(
          "ranking needs a group: the column whose equal values are ranked "
          "together");
    if (!wish_.group.empty()) {
      (void)TRY(column_of(facts_.schema, wish_.group));
      job.group = wish_.group;
    }
    return check_task(job.trainer, job.task);
  }

  Status settle_target(bool settled) {
    TrainJob& job = plan_.job;
    job.target = wish_.target.empty() ? facts_.schema.target : wish_.target;
    if (job.target.empty())
      return bad_training(
          fmt::format("say which column is the target: {}", names_of(facts_.schema)));
    const SchemaColumn* target = TRY(column_of(facts_.schema, job.target));
    const ColumnFacts known = facts_of(facts_.statistics, job.target);
    if (!settled) {
      Inferred inferred = TRY(infer_task(*target, known));
      job.task = inferred.task;
      plan_.why = std::move(inferred.why);
    }
    TRY(check_target(job.task, *target, known));
    if (wish_.positive.empty()) return {};
    job.positive = wish_.positive;
    if (job.task != TrainTask::Binary)
      return bad_training(fmt::format("{} has no positive class", to_string(job.task)));
    const auto& categories = target->categories;
    if (target->type == ColumnType::Category &&
        std::ranges::find(categories, job.positive) == categories.end())
      return bad_training(fmt::format("'{}' has no value '{}'", job.target, job.positive));
    return {};
  }

  bool names(const std::vector<std::string>& list, const std::string& name) const {
    return std::ranges::find(list, name) != list.end();
  }

  // Empty: it is learned from.
  std::string why_left_out(const std::string& name) const {
    const SplitRule& split = facts_.schema.split;
    const bool keyed = split.by == SplitBy::Id || split.by == SplitBy::Group;
    if (name == plan_.job.group) return "rows are ranked by it";
    if (names(wish_.drop, name)) return "it was dropped";
    if (names(wish_.columns, name)) return "";
    if (!wish_.columns.empty()) return "it was not asked for";
    if (plan_.job.task == TrainTask::Clustering && name == facts_.schema.target)
      return "it is the dataset's target";
    if (keyed && name == split.column)
      return "rows are split by it, so its values in new rows are new";
    return "";
  }

  Status settle_columns() {
    if (plan_.job.task == TrainTask::Recommendation)
      return settle_recommendation(wish_, facts_, plan_);
    for (const auto* list : {&wish_.drop, &wish_.columns})
      for (const std::string& name : *list) (void)TRY(column_of(facts_.schema, name));
    if (names(wish_.columns, plan_.job.target))
      return bad_training(fmt::format("'{}' is the target", plan_.job.target));
    std::vector<std::string> left;
    for (const SchemaColumn& column : facts_.schema.columns) {
      if (column.name == plan_.job.target) continue;
      std::string why = why_left_out(column.name);
      if (!why.empty()) {
        plan_.left_out.push_back({.column = column.name, .why = std::move(why)});
        continue;
      }
      TRY(check_column(plan_.job.trainer, column.name, kind_of(column.type)));
      // What is beside it must learn from the same.
      if (column.type == ColumnType::Image) plan_.baseline = false;
      left.push_back(column.name);
    }
    if (left.empty()) return bad_training("there is no column left to learn from");
    if (plan_.job.trainer == TrainerKind::Cnn && left.size() > 1)
      return bad_training(
          fmt::format("cnn learns from one column of images, and there are {}: name it (column)",
                      fmt::join(left, ", ")));
    if (!plan_.left_out.empty()) plan_.job.columns = std::move(left);
    return {};
  }

  Status settle_metric() {
    std::optional<Goal> goal;
    if (!wish_.goal.empty()) goal = TRY(parse_goal(wish_.goal));
    std::string name = wish_.metric;
    if (goal && !name.empty() && goal->metric != name) {
      return bad_training(
          fmt::format("the goal is about {}, and the metric is {}: search and goal "
                      "go by one",
                      goal->metric, name.substr(0, 64)));
    }
    if (goal) name = goal->metric;
    plan_.rule = TRY(metric_rule(plan_.job.task, name));
    plan_.job.metric = plan_.rule.name;
    if (!goal) return {};
    TRY(check_goal(*goal, plan_.rule, plan_.job.task));
    plan_.goal = std::move(goal);
    return {};
  }

  Status settle_resources() {
    TrainJob& job = plan_.job;
    TRY(settle_processors());
    job.memory = wish_.memory > Bytes{}
                     ? wish_.memory
                     : std::min(std::max(kTrialMemory, facts_.code_memory), facts_.memory);
    if (job.memory <= facts_.memory) return {};
    return refuse(
        reason::kTooLarge,
        fmt::format("training: a trial may take {}, and this node gives all jobs together "
                    "{} (jobs.memory)",
                    to_string(job.memory), to_string(facts_.memory)));
  }

  Status settle_processors() {
    TrainJob& job = plan_.job;
    job.workers = wish_.workers;
    if (job.workers > 1 && !trainer_info(job.trainer).several_workers)
      return bad_training(fmt::format(
          "{} has one worker: only xgboost shares its rows among several", to_string(job.trainer)));
    const std::uint32_t most = std::clamp(facts_.cpus, 1U, kMostThreads);
    if (job.workers * std::max(wish_.threads, 1U) > most) {
      const std::string of =
          job.workers > 1 ? fmt::format("{} workers of ", job.workers) : std::string();
      return bad_training(fmt::format("{}{} thread{} are more than jobs have: {} (jobs.cpus)", of,
                                      std::max(wish_.threads, 1U), wish_.threads > 1 ? "s" : "",
                                      most));
    }
    const bool alone = wish_.search || job.trainer == TrainerKind::Mf;  // which has one
    job.threads = wish_.threads > 0 ? wish_.threads : alone ? 1 : most / job.workers;
    return {};
  }

  Status settle_search() {
    plan_.halving = {.trials = 1, .eta = kEta, .resources = {1}};
    if (!wish_.search) {
      if (wish_.space || wish_.budget.trials > 0 || !wish_.sampler.empty())
        return bad_training(
            "a space, a sampler and a number of trials are of a search: say search");
      return {};
    }
    const auto sampler = parse_sampler(wish_.sampler.empty() ? "random" : wish_.sampler);
    if (!sampler)
      return bad_training(fmt::format("there is no sampler '{}'; there are random and tpe",
                                      wish_.sampler.substr(0, 64)));
    plan_.sampler = *sampler;
    const TrainerKind trainer = plan_.job.trainer;
    plan_.space = wish_.space.value_or(default_space(trainer));
    if (plan_.space.empty())
      return bad_training(
          fmt::format("{} has no space of its own to search in: give one", to_string(trainer)));
    TRY(check_space());
    const bool bounded = wish_.budget.time > Duration::zero() || wish_.budget.cost > 0;
    plan_.halving.trials = wish_.budget.trials > 0 ? wish_.budget.trials
                           : bounded               ? kTrialsOfBudget
                                                   : kTrialsOfSearch;
    if (!bounded) plan_.budget.trials = plan_.halving.trials;
    settle_warm_start();
    if (trainer != TrainerKind::Xgboost) return {};
    const auto params = TRY(TrainerParams::parse(trainer, wish_.params));
    const std::uint32_t rounds = params.integer("rounds");
    // After very few rounds a high learning rate always looks best.
    plan_.halving.resources = {rounds};
    if (rounds >= kEta * kEta * 2)
      plan_.halving.resources = {rounds / (kEta * kEta), rounds / kEta, rounds};
    return {};
  }

  // What the version before was trained with, as far as this search varies it. Its record may say
  // anything: what this trainer would not take starts nothing.
  void settle_warm_start() {
    const Json& record = facts_.record;
    if (!wish_.warm_start || plan_.halving.trials < 2 || !record.is_object()) return;
    const Json trainer = record.value("trainer", Json());
    if (!trainer.is_object() || trainer.value("kind", Json()) != to_string(plan_.job.trainer))
      return;
    const auto name_in = [](const Json& function) {
      const std::string text = function.is_string() ? function.get<std::string>() : "";
      return text.substr(0, text.find('@'));
    };
    if (name_in(trainer.value("function", Json(""))) != name_in(plan_.job.function)) return;
    const Json found = trainer.value("params", Json());
    if (!found.is_object()) return;
    Json params = Json::object();
    for (const search::Parameter& parameter : plan_.space)
      if (const auto value = found.find(parameter.name); value != found.end())
        params[parameter.name] = *value;
    const bool named = plan_.job.trainer == TrainerKind::Function;
    if (params.empty() || (!named && !TrainerParams::parse(plan_.job.trainer, params))) return;
    plan_.warm_start = WarmStart{.version = facts_.serving, .params = std::move(params)};
  }

  // Both ends of every range, and every choice, must be values that the trainer takes.
  Status check_space() {
    if (plan_.job.trainer == TrainerKind::Function) return {};
    for (const search::Parameter& parameter : plan_.space) {
      if (parameter.name == "rounds")
        return bad_training("rounds are what a search shares out: set them in params");
      std::vector<Json> values;
      if (const auto* real = std::get_if<search::RealRange>(&parameter.range))
        values = {real->low, real->high};
      if (const auto* whole = std::get_if<search::IntegerRange>(&parameter.range))
        values = {whole->low, whole->high};
      if (const auto* choice = std::get_if<search::Choice>(&parameter.range))
        values = choice->values;
      for (const Json& value : values)
        (void)TRY(TrainerParams::parse(plan_.job.trainer, Json{{parameter.name, value}}));
    }
    return {};
  }

  const TrainWish& wish_;
  const PlanFacts& facts_;
  TrainPlan plan_;
};

}  // namespace

Result<TrainPlan> settle(const TrainWish& wish, const PlanFacts& facts) {
  return Settling(wish, facts).run();
}

search::Space default_space(TrainerKind trainer) {
  using search::IntegerRange;
  using search::RealRange;
  switch (trainer) {
    case TrainerKind::Xgboost:
      return {{"eta", RealRange{0.01, 0.3, true}},
              {"max_depth", IntegerRange{2, 10, false}},
              {"min_child_weight", RealRange{0.5, 30, true}},
              {"subsample", RealRange{0.5, 1, false}},
              {"colsample_bytree", RealRange{0.4, 1, false}},
              {"lambda", RealRange{0.01, 30, true}},
              {"alpha", RealRange{0.001, 10, true}}};
    case TrainerKind::Linear:
      return {{"c", RealRange{1e-4, 1e3, true}}};
    case TrainerKind::Mf:
      return {{"factors", IntegerRange{4, 128, true}},
              {"lambda", RealRange{0.01, 0.5, true}},
              {"alpha", RealRange{0.5, 100, true}}};
    case TrainerKind::Cnn:
      return {{"learning_rate", RealRange{0.0005, 0.01, true}},
              {"width", search::Choice{{16, 32, 64}}},
              {"dropout", RealRange{0, 0.5, false}},
              {"weight_decay", RealRange{1e-5, 0.01, true}}};
    case TrainerKind::Kmeans:    // more clusters are always nearer
    case TrainerKind::Function:  // its parameters are its own
      return {};
  }
  return {};
}

}  // namespace mayfly
