#include "runner/train/target.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kTargetChunk = 65'536;
constexpr double kWholeDoubles = 9'007'199'254'740'992;  // 2^53

std::unexpected<Error> bad_target(const TrainTable& table, std::size_t column,
                                  std::string_view what) {
  return refuse(reason::kInvalidInput,
                fmt::format("column '{}' {}", table.columns()[column].name, what));
}

// `see` is given the numbers of rows and their values, piece by piece.
template <typename T, typename Read, typename See>
Status each_piece(const TrainTable& table, Read read, See see) {
  std::vector<T> values;
  for (std::uint32_t at = 0; at < table.rows(); at += kTargetChunk) {
    const auto rows = row_numbers(at, std::min<std::uint32_t>(kTargetChunk, table.rows() - at));
    values.resize(rows.size());
    TRY(read(rows, std::span<T>(values)));
    TRY(see(std::span<const std::uint32_t>(rows), std::span<const T>(values)));
  }
  return {};
}

template <typename See>
Status each_double(const TrainTable& table, std::size_t column, See see) {
  const auto read = [&](std::span<const std::uint32_t> rows, std::span<double> out) {
    return table.doubles(column, rows, out);
  };
  return each_piece<double>(table, read, see);
}

template <typename See>
Status each_code(const TrainTable& table, std::size_t column, See see) {
  const auto read = [&](std::span<const std::uint32_t> rows, std::span<std::int32_t> out) {
    return table.codes(column, rows, out);
  };
  return each_piece<std::int32_t>(table, read, see);
}

Result<std::vector<std::string>> texts_of_classes(const TrainTable& train, const TrainTable& valid,
                                                  std::size_t column) {
  std::set<std::int32_t> codes;
  for (const TrainTable* table : {&train, &valid}) {
    TRY(each_code(*table, column, [&](auto, std::span<const std::int32_t> some) -> Status {
      codes.insert(some.begin(), some.end());
      return {};
    }));
  }
  std::vector<std::string> names;
  for (const std::int32_t code : codes)
    if (code >= 0)
      names.push_back(train.columns()[column].categories[static_cast<std::size_t>(code)]);
  std::ranges::sort(names);
  return names;
}

Result<std::vector<std::int64_t>> numbers_of_classes(const TrainTable& train,
                                                     const TrainTable& valid, std::size_t column) {
  std::set<std::int64_t> found;
  for (const TrainTable* table : {&train, &valid}) {
    TRY(each_double(*table, column, [&](auto, std::span<const double> some) -> Status {
      for (const double value : some) {
        if (std::isnan(value)) continue;
        if (value != std::floor(value) || std::abs(value) >= kWholeDoubles)
          return bad_target(train, column, fmt::format("holds {}, which names no class", value));
        found.insert(static_cast<std::int64_t>(value));
        if (found.size() > kMostClasses) break;
      }
      return {};
    }));
  }
  return std::vector<std::int64_t>(found.begin(), found.end());
}

// Rows of one group beside each other, in the order in which they came.
Status order_by_group(const TrainTable& table, std::size_t column, Target& target) {
  const ColumnKind kind = table.columns()[column].kind;
  std::vector<std::int64_t> keys(target.rows.size());
  if (kind == ColumnKind::Category) {
    std::vector<std::int32_t> codes(target.rows.size());
    TRY(table.codes(column, target.rows, codes));
    std::ranges::copy(codes, keys.begin());
  } else if (kind == ColumnKind::Integer || kind == ColumnKind::Date) {
    TRY(table.integers(column, target.rows, keys));
  } else {
    return bad_target(table, column, "is no category, integer or date, by which rows are grouped");
  }
  std::vector<std::pair<std::int64_t, std::size_t>> order;
  for (std::size_t i = 0; i < keys.size(); ++i) order.emplace_back(keys[i], i);
  std::ranges::sort(order);
  Target sorted;
  for (const auto& [key, place] : order) {
    if (sorted.rows.empty() || key != order[sorted.rows.size() - 1].first)
      sorted.groups.push_back(0);
    ++sorted.groups.back();
    sorted.rows.push_back(target.rows[place]);
    sorted.labels.push_back(target.labels[place]);
  }
  target = std::move(sorted);
  return {};
}

}  // namespace

std::size_t ClassNames::size() const {
  return std::visit([](const auto& some) { return some.size(); }, names);
}

std::string ClassNames::text(std::size_t place) const {
  if (const auto* numbers = std::get_if<std::vector<std::int64_t>>(&names))
    return fmt::format("{}", numbers->at(place));
  return std::get<std::vector<std::string>>(names).at(place);
}

std::optional<std::size_t> ClassNames::place_of(const GraphValues& labels, std::size_t row) const {
  return std::visit(
      [&]<typename T>(const std::vector<T>& known) -> std::optional<std::size_t> {
        const auto* said = std::get_if<std::vector<T>>(&labels);
        if (said == nullptr || row >= said->size()) return std::nullopt;
        const auto found = std::ranges::find(known, (*said)[row]);
        if (found == known.end()) return std::nullopt;
        return static_cast<std::size_t>(found - known.begin());
      },
      names);
}

Result<ClassNames> find_classes(TrainTask task, std::string_view positive, const TrainTable& train,
                                const TrainTable& valid, std::size_t column) {
  ClassNames classes;
  const ColumnKind kind = train.columns()[column].kind;
  if (kind == ColumnKind::Category) {
    classes.names = TRY(texts_of_classes(train, valid, column));
  } else if (kind == ColumnKind::Integer || kind == ColumnKind::Number) {
    classes.names = TRY(numbers_of_classes(train, valid, column));
  } else {
    return bad_target(train, column,
                      fmt::format("is of type {}, which names no classes", to_string(kind)));
  }
  if (classes.size() < 2) return bad_target(train, column, "holds fewer than two classes");
  if (classes.size() > kMostClasses) {
    return bad_target(train, column,
                      fmt::format("holds more than {} classes; is it a value? Then the task is "
                                  "regression",
                                  kMostClasses));
  }
  if (task == TrainTask::Binary && classes.size() != 2)
    return bad_target(train, column,
                      fmt::format("holds {} classes, and a binary task has two: the task is "
                                  "multiclass",
                                  classes.size()));
  if (positive.empty()) return classes;
  if (classes.size() != 2 || (positive != classes.text(0) && positive != classes.text(1)))
    return bad_target(train, column, fmt::format("has no positive class '{}' of two", positive));
  if (positive == classes.text(0))
    std::visit([](auto& some) { std::swap(some[0], some[1]); }, classes.names);
  return classes;
}

Result<Target> read_target(TrainTask task, const ClassNames& classes, const TrainTable& table,
                           const TargetColumns& columns) {
  Target target;
  if (!columns.target) {
    target.rows = row_numbers(0, table.rows());
    return target;
  }
  const std::size_t column = *columns.target;
  const ColumnKind kind = table.columns()[column].kind;
  const auto add = [&](std::uint32_t row, float label) {
    target.rows.push_back(row);
    target.labels.push_back(label);
  };
  if (kind == ColumnKind::Category && is_classification(task)) {
    const auto& names = std::get<std::vector<std::string>>(classes.names);
    std::vector<float> places;
    for (const std::string& category : table.columns()[column].categories)
      places.push_back(static_cast<float>(std::ranges::find(names, category) - names.begin()));
    TRY(each_code(table, column, [&](auto rows, std::span<const std::int32_t> codes) -> Status {
      for (std::size_t i = 0; i < codes.size(); ++i)
        if (codes[i] >= 0) add(rows[i], places[static_cast<std::size_t>(codes[i])]);
      return {};
    }));
    return target;
  }
  if (kind != ColumnKind::Integer && kind != ColumnKind::Number) {
    return bad_target(
        table, column,
        fmt::format("is of type {}, which is no target of {}", to_string(kind), to_string(task)));
  }
  TRY(each_double(table, column, [&](auto rows, std::span<const double> values) -> Status {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) continue;
      if (!std::isfinite(static_cast<float>(values[i])))
        return bad_target(table, column, fmt::format("holds {}, which is no value", values[i]));
      if (!is_classification(task)) {
        add(rows[i], static_cast<float>(values[i]));
        continue;
      }
      const auto& names = std::get<std::vector<std::int64_t>>(classes.names);
      const auto found = std::ranges::find(names, static_cast<std::int64_t>(values[i]));
      add(rows[i], static_cast<float>(found - names.begin()));
    }
    return {};
  }));
  if (task == TrainTask::Ranking && columns.group)
    TRY(order_by_group(table, *columns.group, target));
  return target;
}

}  // namespace mayfly
