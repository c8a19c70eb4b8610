#include "training/recommendation.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/caller_reason.h"
#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMostModel = (std::uint64_t{1} << 31) - 1;  // of an ONNX file
constexpr std::uint64_t kBytesOfName = 20;                          // of a user or an item, about
constexpr std::uint64_t kBytesOfPair = 5;

std::unexpected<Error> bad_recommendation(const std::string& what) {
  return refuse(reason::kBadRequest, fmt::format("training: {}", what));
}

Status check_names(const DatasetSchema& schema, const std::string& name, std::string_view who) {
  const ColumnType type = schema.find(name)->type;
  if (type == ColumnType::Category || type == ColumnType::Integer || type == ColumnType::Text)
    return {};
  return bad_recommendation(
      fmt::format("the {} must be a category, a text or whole numbers; '{}' is of type {}", who,
                  name, to_string(type)));
}

std::uint64_t distinct_of(const Json& statistics, std::string_view name) {
  if (!statistics.is_object() || !statistics.contains("columns")) return 0;
  for (const Json& column : statistics["columns"]) {
    if (!column.is_object() || column.value("name", "") != name) continue;
    const Json distinct = column.value("distinct", Json());
    return distinct.is_number() ? static_cast<std::uint64_t>(std::max(0.0, distinct.get<double>()))
                                : 0;
  }
  return 0;
}

Status check_model_size(const PlanFacts& facts, const TrainJob& job) {
  const TrainerParams params = TRY(TrainerParams::parse(job.trainer, job.params));
  const std::uint64_t users = distinct_of(facts.statistics, job.group);
  const std::uint64_t items = distinct_of(facts.statistics, job.target);
  if (items == 1)
    return bad_recommendation(fmt::format(
        "'{}' holds one value in all rows: there is nothing to choose between", job.target));
  const std::uint64_t factors = params.integer("factors") + 1;
  const Bytes size{(users + items) * (factors * sizeof(float) + kBytesOfName) +
                   facts.snapshot.rows.train * kBytesOfPair};
  if (size.count <= kMostModel) return {};
  return refuse(reason::kTooLarge,
                fmt::format("training: about {} users and {} items with {} factors would be a "
                            "model of {}, and an ONNX file holds 2 GiB: take fewer factors or "
                            "users",
                            users, items, factors - 1, to_string(size)));
}

Status settle_amounts(const TrainWish& wish, const DatasetSchema& schema, TrainPlan& plan) {
  if (wish.columns.size() > 1)
    return bad_recommendation(
        fmt::format("a recommendation learns from users, items and one column of amounts; {} "
                    "were named",
                    wish.columns.size()));
  plan.job.columns = wish.columns;
  for (const SchemaColumn& column : schema.columns) {
    if (column.name == plan.job.target || column.name == plan.job.group) continue;
    if (std::ranges::find(wish.columns, column.name) == wish.columns.end()) {
      plan.left_out.push_back(
          {.column = column.name, .why = "users and items are learned from, and amounts if named"});
      continue;
    }
    const auto kind = parse_column_kind(to_string(column.type));
    TRY(check_column(plan.job.trainer, column.name, kind.value_or(ColumnKind::Text)));
  }
  return {};
}

// A column that is named beside users and items.
Status check_other(const DatasetSchema& schema, const TrainJob& job, const std::string& name) {
  if (schema.find(name) == nullptr)
    return bad_recommendation(fmt::format("there is no column '{}'", name.substr(0, 200)));
  if (name == job.group) return bad_recommendation(fmt::format("'{}' is the group", name));
  if (name == job.target) return bad_recommendation(fmt::format("'{}' is the target", name));
  return {};
}

Status check_split(const SplitRule& split, const TrainJob& job) {
  const bool keyed = split.by == SplitBy::Id || split.by == SplitBy::Group;
  if (!keyed || (split.column != job.group && split.column != job.target)) return {};
  return bad_recommendation(
      fmt::format("rows are split by '{}', so that no {} of held-out rows is in training rows, and "
                  "nothing could be recommended: put the data as a dataset that is split by its "
                  "rows (without --id and --group)",
                  split.column, split.column == job.group ? "user" : "item"));
}

}  // namespace

Status settle_recommendation(const TrainWish& wish, const PlanFacts& facts, TrainPlan& plan) {
  const TrainJob& job = plan.job;
  if (job.group.empty())
    return bad_recommendation(
        "recommendation needs a group: the column of the users, who have the items");
  if (job.group == job.target)
    return bad_recommendation(
        fmt::format("'{}' cannot be both the users and the items", job.target));
  for (const auto* list : {&wish.columns, &wish.drop})
    for (const std::string& name : *list) TRY(check_other(facts.schema, job, name));
  TRY(check_names(facts.schema, job.group, "group, the users,"));
  TRY(check_names(facts.schema, job.target, "target, the items,"));
  TRY(check_split(facts.schema.split, job));
  TRY(check_model_size(facts, job));
  return settle_amounts(wish, facts.schema, plan);
}

}  // namespace mayfly
