#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/printable.h"
#include "runner/train/trained_model.h"

namespace mayfly {
namespace {

constexpr std::size_t kParityRows = 1000;     // at least, of rows as they are
constexpr std::size_t kParityScale = 10'000;  // training rows whose predictions give the scale
constexpr std::size_t kParityColumns = 500;   // that are made missing, unknown, extreme
constexpr std::int64_t kParityNoDate = std::numeric_limits<std::int64_t>::min();
constexpr std::size_t kLongestShown = 200;

// Rows to compare on, and where each came from.
class ParityRows {
 public:
  explicit ParityRows(RowBatch first) : batch_(std::move(first)) {}

  std::size_t count() const { return batch_.rows; }
  const RowBatch& batch() const { return batch_; }
  const std::string& source(std::size_t row) const {
    return std::ranges::find_if(sources_, [row](const auto& some) { return row < some.second; })
        ->first;
  }
  void mark(const std::string& source) { sources_.emplace_back(source, batch_.rows); }
  Json counts() const {
    Json json = Json::object();
    std::size_t before = 0;
    for (const auto& [name, end] : sources_) {
      json[name] = end - before;
      before = end;
    }
    return json;
  }

  void append(const RowBatch& more) {
    for (std::size_t i = 0; i < batch_.columns.size(); ++i) {
      std::visit(
          [&]<typename T>(std::vector<T>& to) {
            const auto& from = std::get<std::vector<T>>(more.columns[i].values);
            to.insert(to.end(), from.begin(), from.end());
          },
          batch_.columns[i].values);
    }
    batch_.rows += more.rows;
  }

  // A copy of a row, which `change` then may change: it is given each column's values, whose last
  // is the copy's.
  template <typename Change>
  void copy(std::size_t row, Change change) {
    for (std::size_t i = 0; i < batch_.columns.size(); ++i) {
      std::visit(
          [&](auto& values) {
            auto copied = values[row];
            values.push_back(std::move(copied));
            change(i, values);
          },
          batch_.columns[i].values);
    }
    ++batch_.rows;
  }

  void add_perturbed(std::size_t to, Noise& noise) {
    const std::size_t originals = batch_.rows;
    while (originals > 0 && batch_.rows < to) {
      copy(batch_.rows % originals, [&]<typename T>(std::size_t, std::vector<T>& values) {
        const std::size_t other = noise.bits() % originals;
        if constexpr (std::is_same_v<T, float>) {
          values.back() *= static_cast<float>(1 + 0.05 * noise.real());
        } else if constexpr (std::is_same_v<T, std::int64_t>) {
          if (values.back() != kParityNoDate)
            values.back() += static_cast<std::int64_t>(noise.real() * 3e9);  // a month or so
        } else {
          values.back() = values[other];
        }
      });
    }
    mark("perturbed");
  }

  void add_missing() {
    const auto clear = []<typename T>(std::vector<T>& values) {
      if constexpr (std::is_same_v<T, float>) {
        values.back() = std::numeric_limits<float>::quiet_NaN();
      } else if constexpr (std::is_same_v<T, std::int64_t>) {
        values.back() = kParityNoDate;
      } else {
        values.back().clear();
      }
    };
    const std::size_t originals = batch_.rows;
    const std::size_t columns = std::min(batch_.columns.size(), kParityColumns);
    for (std::size_t column = 0; column < columns; ++column) {
      copy(column % originals, [&](std::size_t i, auto& values) {
        if (i == column) clear(values);
      });
    }
    copy(0, [&](std::size_t, auto& values) { clear(values); });
    mark("missing");
  }

  void add_unknown() {
    const std::size_t originals = batch_.rows;
    const std::size_t columns = std::min(batch_.columns.size(), kParityColumns);
    for (std::size_t column = 0; column < columns; ++column) {
      if (!std::holds_alternative<std::vector<std::string>>(batch_.columns[column].values))
        continue;
      copy(column % originals, [&]<typename T>(std::size_t i, std::vector<T>& values) {
        if constexpr (std::is_same_v<T, std::string>)
          if (i == column) values.back() = "mayfly never saw this";
      });
    }
    mark("unknown");
  }

  // Ten times as far out as the rows went, on both sides, and 0; dates at both ends of the
  // calendar.
  void add_extremes() {
    const std::size_t originals = batch_.rows;
    const std::size_t columns = std::min(batch_.columns.size(), kParityColumns);
    for (std::size_t column = 0; column < columns; ++column) {
      for (const int side : {-1, 0, 1}) {
        const GraphValues& given = batch_.columns[column].values;
        if (std::holds_alternative<std::vector<std::string>>(given)) break;
        copy(column % originals, [&]<typename T>(std::size_t i, std::vector<T>& values) {
          if (i != column) return;
          if constexpr (std::is_same_v<T, float>) {
            values.back() = side == 0 ? 0 : far_out(values, static_cast<float>(side));
          } else if constexpr (std::is_same_v<T, std::int64_t>) {
            values.back() = side * std::int64_t{253'402'300'799'999};
          }
        });
      }
    }
    mark("extreme");
  }

  Json shown(std::size_t row) const {
    Json json = Json::object();
    for (const RowBatch::Column& column : batch_.columns) {
      std::visit(
          [&]<typename T>(const std::vector<T>& values) {
            if constexpr (std::is_same_v<T, std::string>) {
              json[column.name] = printable(values[row], kLongestShown);
            } else {
              json[column.name] = values[row];  // NaN: null
            }
          },
          column.values);
      if (json.size() >= kParityColumns) break;
    }
    return json;
  }

 private:
  static float far_out(const std::vector<float>& values, float side) {
    float low = std::numeric_limits<float>::max();
    float high = -low;
    for (const float value : values) {
      if (std::isnan(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
    if (low > high) return side;
    constexpr float kMost = std::numeric_limits<float>::max() / 100;
    const float span = std::clamp(high / 10 - low / 10, 1e-30F, kMost / 10) * 10;
    return std::clamp((side < 0 ? low : high) + 10 * side * span, -kMost, kMost);
  }

  RowBatch batch_;
  std::vector<std::pair<std::string, std::size_t>> sources_;  // and where it ends
};

// What the graph said, row by row, against what the trainer says.
class Comparison {
 public:
  Comparison(const ParityParts& parts, const ParityRows& rows, double scale)
      : parts_(parts),
        rows_(rows),
        agreement_(parts.classes, scale,
                   {.from = [&rows](std::size_t row) { return rows.source(row); },
                    .shown = [&rows](std::size_t row) { return rows.shown(row); }}) {}

  Status run() {
    GraphSession session =
        TRY(GraphSession::open(parts_.runtime, parts_.model.onnx, parts_.threads));
    outputs_ = TRY(session.run(rows_.batch(), parts_.model.outputs));
    const std::vector<float> matrix = TRY(parts_.features.run(rows_.batch()));
    scores_ = TRY(parts_.trainer.score(matrix));
    if (scores_.rows() != rows_.count())
      return fail(Code::Internal, "the trainer scored other rows than it was given");
    for (std::size_t i = 0; i < outputs_.size(); ++i) TRY(compare(parts_.model.outputs[i], i));
    return {};
  }

  ParityReport report() const { return agreement_.report(rows_.count(), rows_.counts()); }

 private:
  Status compare(const std::string& name, std::size_t output) {
    const GraphValues& values = outputs_[output].values;
    if (name == "label" || name == "cluster") {
      for (std::size_t row = 0; row < rows_.count(); ++row) {
        if (name == "label") agreement_.compare_label(values, row, scores_.row(row));
        if (name == "cluster") compare_cluster(values, row);
      }
      return {};
    }
    const auto* said = std::get_if<std::vector<float>>(&values);
    const std::size_t width = name == "probabilities" ? scores_.width : 1;
    if (said == nullptr || said->size() != rows_.count() * width)
      return fail(Code::Internal, fmt::format("the graph's '{}' has the wrong size", name));
    for (std::size_t row = 0; row < rows_.count(); ++row) {
      for (std::size_t i = 0; i < width; ++i) {
        const double own = name == "distance"
                               ? static_cast<double>(std::ranges::min(scores_.row(row)))
                               : static_cast<double>(scores_.row(row)[i]);
        agreement_.compare_number(name, row, static_cast<double>((*said)[row * width + i]), own);
      }
    }
    return {};
  }

  // The nearest of the trainer's clusters is the graph's, or as near.
  void compare_cluster(const GraphValues& values, std::size_t row) {
    const auto distances = scores_.row(row);
    const auto best = std::ranges::min_element(distances);
    const auto said = cluster_said(values, row);
    std::optional<double> gap;
    if (said && *said < distances.size())
      gap = static_cast<double>(distances[*said]) - static_cast<double>(*best);
    agreement_.compare_cluster(said, row, static_cast<std::size_t>(best - distances.begin()),
                               static_cast<double>(*best), gap);
  }

  const ParityParts& parts_;
  const ParityRows& rows_;
  Agreement agreement_;
  std::vector<GraphOutput> outputs_;
  Scores scores_;
};

// The standard deviation of what the trainer says of training rows; 1 for probabilities.
Result<double> scale_of(const ParityParts& parts) {
  if (is_classification(parts.task)) return 1;
  const auto rows = spread(parts.train.rows, kParityScale);
  const RowBatch batch = TRY(read_rows(parts.train.table, parts.features.features(), rows));
  const std::vector<float> matrix = TRY(parts.features.run(batch));
  const Scores scores = TRY(parts.trainer.score(matrix));
  double sum = 0;
  double squares = 0;
  for (std::size_t row = 0; row < scores.rows(); ++row) {
    const auto value = static_cast<double>(std::ranges::min(scores.row(row)));
    sum += value;
    squares += value * value;
  }
  const double mean = sum / static_cast<double>(scores.rows());
  return std::sqrt(std::max(0.0, squares / static_cast<double>(scores.rows()) - mean * mean));
}

}  // namespace

Result<ParityReport> check_parity(const ParityParts& parts) {
  const auto& features = parts.features.features();
  const auto held_out = spread(parts.valid.rows, kParityRows);
  ParityRows rows(TRY(read_rows(parts.valid.table, features, held_out)));
  rows.mark("valid");
  const auto learned = spread(parts.train.rows, kParityRows - rows.count());
  rows.append(TRY(read_rows(parts.train.table, features, learned)));
  rows.mark("train");
  Noise noise(parts.seed);
  rows.add_perturbed(std::max(kParityRows, rows.count() + kParityRows / 10), noise);
  rows.add_missing();
  rows.add_unknown();
  rows.add_extremes();
  Comparison comparison(parts, rows, TRY(scale_of(parts)));
  TRY(comparison.run());
  return comparison.report();
}

}  // namespace mayfly
