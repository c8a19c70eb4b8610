// What is to be learned: a class or a value of each row, and which rows have one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "runner/report/trainer.h"
#include "runner/train/graph_session.h"
#include "runner/train/table.h"

namespace mayfly {

inline constexpr std::size_t kMostClasses = 1000;

// Names of classes, in the order of their places: texts, or whole numbers.
struct ClassNames {
  std::variant<std::vector<std::int64_t>, std::vector<std::string>> names;

  std::size_t size() const;
  std::string text(std::size_t place) const;
  // Of a label as the model says it, by row; nullopt: none of these.
  std::optional<std::size_t> place_of(const GraphValues& labels, std::size_t row) const;
};

// Of all rows of both tables, sorted; `positive`, where there are two, comes last. InvalidArgument
// (reason invalid_input): a column that holds no classes, too many of them, or not two for Binary.
Result<ClassNames> find_classes(TrainTask task, std::string_view positive, const TrainTable& train,
                                const TrainTable& valid, std::size_t column);

struct Target {
  std::vector<std::uint32_t> rows;    // that have one, ascending; for ranking by group
  std::vector<float> labels;          // of those: a class's place, or the value
  std::vector<std::uint32_t> groups;  // ranking: how many rows each has
};

struct TargetColumns {
  std::optional<std::size_t> target;  // none: all rows, without labels
  std::optional<std::size_t> group;
};

// InvalidArgument (reason invalid_input): a column whose type the task cannot have.
Result<Target> read_target(TrainTask task, const ClassNames& classes, const TrainTable& table,
                           const TargetColumns& columns);

}  // namespace mayfly
