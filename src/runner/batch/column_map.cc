#include "runner/batch/column_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <ranges>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kListedColumns = 40;
constexpr std::uint64_t kMaxWidth = 1 << 20;

class ColumnMapper {
 public:
  ColumnMapper(std::span<const FileColumn> columns, const BatchJob& job)
      : columns_(columns), job_(job) {}

  Result<ColumnMap> map() {
    ColumnMap map;
    map.kept = TRY(kept());
    for (const auto& [input, names] : job_.columns) {
      if (!job_.signature.input_index(input))
        return refuse_columns(fmt::format("the function has no input '{}'", input));
    }
    for (const TensorSpec& spec : job_.signature.inputs)
      map.inputs.push_back(TRY(map_input(spec, map.kept)));
    return map;
  }

 private:
  std::unexpected<Error> refuse_columns(std::string_view complaint) const {
    std::string has;
    for (std::size_t i = 0; i < std::min(columns_.size(), kListedColumns); ++i)
      has += fmt::format("{}{}", i == 0 ? "" : ", ", columns_[i].name.substr(0, 100));
    if (columns_.size() > kListedColumns) has += ", …";
    std::string wants;
    for (const TensorSpec& spec : job_.signature.inputs) {
      wants += fmt::format("{}{} {} {}", wants.empty() ? "" : ", ", spec.name, to_string(spec.type),
                           mayfly::to_string(spec.shape));
    }
    return refuse(reason::kInvalidInput,
                  fmt::format("{}. The file has {} columns: {}. The function takes: {}", complaint,
                              columns_.size(), has, wants));
  }

  Result<std::optional<std::size_t>> find(std::string_view name) const {
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (columns_[i].name != name) continue;
      if (found) return refuse_columns(fmt::format("there are two columns '{}'", name));
      found = i;
    }
    return found;
  }

  Result<std::size_t> need(std::string_view name) const {
    if (const auto found = TRY(find(name))) return *found;
    return refuse_columns(fmt::format("there is no column '{}'", name));
  }

  Result<std::vector<std::size_t>> kept() const {
    std::vector<std::size_t> kept;
    if (job_.keep.all) {
      for (std::size_t i = 0; i < columns_.size(); ++i) kept.push_back(i);
    }
    for (const std::string& name : job_.keep.names) kept.push_back(TRY(need(name)));
    return kept;
  }

  // The values of one row, where no dimension of it is free.
  static std::optional<std::uint64_t> fixed_width(const TensorSpec& spec) {
    std::uint64_t width = 1;
    for (const std::int64_t dimension : spec.shape | std::views::drop(1)) {
      if (dimension < 0) return std::nullopt;
      width *= static_cast<std::uint64_t>(dimension);
      if (width > kMaxWidth) return kMaxWidth + 1;
    }
    return width;
  }

  Result<InputColumns> map_input(const TensorSpec& spec, const std::vector<std::size_t>& kept) {
    const auto width = fixed_width(spec);
    if (width && (*width == 0 || *width > kMaxWidth)) {
      return refuse_columns(fmt::format("a row of input '{}' has {} values", spec.name,
                                        *width == 0 ? "no" : "too many"));
    }
    if (const auto named = job_.columns.find(spec.name); named != job_.columns.end())
      return bind(spec, TRY(named_columns(named->second)));
    if (const auto own = TRY(find(spec.name))) return bind(spec, {*own});
    if (auto numbered = TRY(numbered_columns(spec, width)); !numbered.empty())
      return bind(spec, std::move(numbered));
    if (auto rest = all_columns(width, kept); !rest.empty()) return bind(spec, std::move(rest));
    return refuse_missing(spec, width);
  }

  std::unexpected<Error> refuse_missing(const TensorSpec& spec,
                                        std::optional<std::uint64_t> width) const {
    if (width == 1)
      return refuse_columns(fmt::format("input '{}' needs a column '{}'", spec.name, spec.name));
    const std::string count = width ? fmt::format("{}", *width) : "some";
    return refuse_columns(fmt::format(
        "input '{}' needs a column '{}' that holds lists of {} values, or columns {}_0, {}_1 and "
        "so "
        "on, or to be told its columns{}",
        spec.name, spec.name, count, spec.name, spec.name,
        job_.signature.inputs.size() == 1
            ? fmt::format("; or a file with {} columns besides those that are kept", count)
            : ""));
  }

  Result<std::vector<std::size_t>> named_columns(const std::vector<std::string>& names) const {
    std::vector<std::size_t> found;
    for (const std::string& name : names) found.push_back(TRY(need(name)));
    return found;
  }

  Result<std::vector<std::size_t>> numbered_columns(const TensorSpec& spec,
                                                    std::optional<std::uint64_t> width) const {
    std::vector<std::size_t> found;
    std::map<std::string_view, std::size_t> by_name;
    for (std::size_t i = 0; i < columns_.size(); ++i) by_name.emplace(columns_[i].name, i);
    while (!width || found.size() < *width) {
      const auto next = by_name.find(fmt::format("{}_{}", spec.name, found.size()));
      if (next == by_name.end()) break;
      TRY(find(next->first));  // there is one of that name
      found.push_back(next->second);
    }
    if (width && !found.empty() && found.size() < *width) {
      return refuse_columns(
          fmt::format("input '{}' takes {} values of a row, but there is no "
                      "column '{}_{}'",
                      spec.name, *width, spec.name, found.size()));
    }
    return found;
  }

  std::vector<std::size_t> all_columns(std::optional<std::uint64_t> width,
                                       const std::vector<std::size_t>& kept) const {
    if (job_.signature.inputs.size() != 1 || !job_.columns.empty()) return {};
    std::vector<std::size_t> rest;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (job_.keep.all || std::ranges::find(kept, i) == kept.end()) rest.push_back(i);
    }
    if (width && rest.size() != *width) return {};
    return rest;
  }

  // The columns are there; whether they are as many values as a row has.
  Result<InputColumns> bind(const TensorSpec& spec, std::vector<std::size_t> columns) const {
    InputColumns bound{.spec = spec, .width = 1, .columns = std::move(columns)};
    bound.list = bound.columns.size() == 1 && columns_[bound.columns[0]].list;
    std::uint64_t values = bound.columns.size();
    if (bound.list) {
      values = columns_[bound.columns[0]].length;
    } else if (std::ranges::any_of(bound.columns,
                                   [this](std::size_t i) { return columns_[i].list; })) {
      return refuse_columns(
          fmt::format("input '{}' cannot be made of several columns of lists", spec.name));
    }
    bound.spec.shape.erase(bound.spec.shape.begin());
    const auto free = std::ranges::count(bound.spec.shape, -1);
    if (free > 1)
      return refuse_columns(fmt::format("input '{}' has more than one free dimension", spec.name));
    std::uint64_t fixed = 1;
    for (const std::int64_t dimension : bound.spec.shape) {
      if (dimension > 0) fixed *= static_cast<std::uint64_t>(dimension);
    }
    if (free == 1) {
      if (values == 0 || values % fixed != 0) {
        return refuse_columns(fmt::format(
            "input '{}' has a free dimension, and it is not known how many values a row has",
            spec.name));
      }
      *std::ranges::find(bound.spec.shape, -1) = static_cast<std::int64_t>(values / fixed);
      fixed = values;
    }
    bound.width = fixed;
    if (values != bound.width && !(bound.list && values == 0)) {
      return refuse_columns(fmt::format("input '{}' takes {} values of a row, its columns have {}",
                                        spec.name, bound.width, values));
    }
    return bound;
  }

  std::span<const FileColumn> columns_;
  const BatchJob& job_;
};

}  // namespace

Result<ColumnMap> map_columns(std::span<const FileColumn> columns, const BatchJob& job) {
  return ColumnMapper(columns, job).map();
}

Result<std::uint32_t> rows_per_request(const Signature& signature) {
  std::uint32_t rows = 0;
  for (const std::vector<TensorSpec>* specs : {&signature.inputs, &signature.outputs}) {
    for (const TensorSpec& spec : *specs) {
      if (!spec.shape.empty() && spec.shape[0] == -1) continue;
      if (!spec.shape.empty() && spec.shape[0] == 1) {
        rows = 1;
        continue;
      }
      return refuse(reason::kInvalidInput,
                    fmt::format("'{}' of the function has shape {}: its first dimension stands for "
                                "no rows, so it cannot be asked row by row",
                                spec.name, to_string(spec.shape)));
    }
  }
  return rows;
}

}  // namespace mayfly
