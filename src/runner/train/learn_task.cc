#include "runner/train/learn_task.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/reason.h"

namespace mayfly {
namespace {

Result<std::size_t> column_named(const TrainTable& table, const std::string& name) {
  if (const auto column = table.find(name)) return *column;
  std::string names;
  for (const TrainColumn& column : table.columns())
    names += fmt::format("{}{}", names.empty() ? "" : ", ", column.name);
  return refuse(reason::kInvalidInput,
                fmt::format("there is no column '{}'; there are {}", name, names.substr(0, 2000)));
}

}  // namespace

Result<LearnTargets> read_targets(const TrainJob& job, const TrainTable& train,
                                  const TrainTable& valid) {
  LearnTargets found;
  TargetColumns columns;
  if (job.task == TrainTask::Clustering) {
    if (!job.target.empty())
      return refuse(reason::kInvalidInput, "clusters have no target: leave it out");
  } else {
    if (job.target.empty())
      return refuse(reason::kInvalidInput,
                    fmt::format("{} needs a target: the column to learn", to_string(job.task)));
    columns.target = TRY(column_named(train, job.target));
  }
  if (job.task == TrainTask::Ranking) {
    if (job.group.empty())
      return refuse(reason::kInvalidInput,
                    "ranking needs a group: the column whose equal values are ranked together");
    columns.group = TRY(column_named(train, job.group));
  }
  if (is_classification(job.task))
    found.classes = TRY(find_classes(job.task, job.positive, train, valid, *columns.target));
  found.train = TRY(read_target(job.task, found.classes, train, columns));
  found.valid = TRY(read_target(job.task, found.classes, valid, columns));
  for (const Target* target : {&found.train, &found.valid}) {
    if (target->rows.empty()) {
      return refuse(
          reason::kInvalidInput,
          fmt::format("there are no {} rows{}", target == &found.train ? "training" : "validation",
                      columns.target ? " that have a target" : ""));
    }
  }
  return found;
}

Result<std::vector<std::size_t>> feature_columns(const TrainJob& job, const TrainTable& table) {
  std::vector<std::size_t> columns;
  if (job.columns.empty()) {
    for (std::size_t i = 0; i < table.columns().size(); ++i) columns.push_back(i);
  }
  for (const std::string& name : job.columns) {
    columns.push_back(TRY(column_named(table, name)));
    if (name == job.target)
      return refuse(reason::kInvalidInput,
                    fmt::format("column '{}' is the target, and cannot be learned from", name));
  }
  std::erase_if(columns, [&](std::size_t column) {
    const std::string& name = table.columns()[column].name;
    return name == job.target || (!job.group.empty() && name == job.group);
  });
  for (const std::size_t column : columns) {
    const TrainColumn& some = table.columns()[column];
    TRY(check_column(job.trainer, some.name, some.kind));
  }
  return columns;
}

}  // namespace mayfly
