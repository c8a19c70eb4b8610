#include "runner/train/feature_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "runner/train/vocabulary.h"

namespace mayfly {
namespace {

constexpr std::size_t kPlanChunk = 8192;           // rows read at once
constexpr std::size_t kMostChunkFloats = 1 << 20;  // of the matrix, made at once
constexpr std::size_t kMostFeatures = 100'000;
constexpr std::int64_t kNoDate = std::numeric_limits<std::int64_t>::min();
constexpr std::array kDateParts = {DatePart::Year,    DatePart::Month, DatePart::Day,
                                   DatePart::Weekday, DatePart::Hour,  DatePart::Days};

// Mean and deviation in one pass (Welford 1962).
class Moments {
 public:
  void add(double value) {
    ++count_;
    const double off = value - mean_;
    mean_ += off / static_cast<double>(count_);
    squares_ += off * (value - mean_);
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
  }
  std::uint64_t count() const { return count_; }
  bool varies() const { return count_ > 0 && low_ < high_; }
  float mean() const { return static_cast<float>(mean_); }
  // At least the smallest step there is, so that nothing is divided by 0.
  float deviation() const {
    const double deviation =
        std::sqrt(squares_ / static_cast<double>(std::max(count_, std::uint64_t{1})));
    const double most = std::numeric_limits<float>::max();
    return static_cast<float>(
        std::clamp<double>(deviation, std::numeric_limits<float>::min(), most));
  }

 private:
  std::uint64_t count_ = 0;
  double mean_ = 0;
  double squares_ = 0;
  double low_ = std::numeric_limits<double>::infinity();
  double high_ = -low_;
};

// For statistics only: what a date's parts are, the graph says.
std::array<double, kDateParts.size()> parts_of(std::int64_t milliseconds) {
  using namespace std::chrono;
  const sys_time<std::chrono::milliseconds> time{std::chrono::milliseconds(std::clamp(
      milliseconds, std::int64_t{-62'135'596'800'000}, std::int64_t{253'402'300'799'999}))};
  const auto day = floor<days>(time);
  const year_month_day date(day);
  return {static_cast<double>(static_cast<int>(date.year())),
          static_cast<double>(static_cast<unsigned>(date.month())),
          static_cast<double>(static_cast<unsigned>(date.day())),
          static_cast<double>(weekday(day).iso_encoding() - 1),
          static_cast<double>(duration_cast<hours>(time - day).count()),
          static_cast<double>(day.time_since_epoch().count())};
}

class PlanFitter {
 public:
  PlanFitter(const OnnxRuntime& runtime, const TrainTable& table,
             std::span<const std::uint32_t> rows, const PlanOptions& options)
      : runtime_(runtime), table_(table), rows_(rows), options_(options) {}

  Status add(std::size_t column) {
    switch (table_.columns()[column].kind) {
      case ColumnKind::Number:
      case ColumnKind::Integer:
        return add_number(column);
      case ColumnKind::Date:
        return add_date(column);
      case ColumnKind::Category:
        return add_category(column);
      case ColumnKind::Text:
        return add_text(column);
      case ColumnKind::Image:
        break;
    }
    return leave_out(column, "it is made of images");
  }

  Result<FeaturePlan> finish() {
    if (plan_.features.empty()) {
      std::string why;
      for (const LeftOut& left : plan_.left_out)
        why += fmt::format("{}'{}': {}", why.empty() ? ": " : "; ", left.column, left.why);
      return fail(Code::InvalidArgument, "there is no column to learn from" + why.substr(0, 2000));
    }
    return std::move(plan_);
  }

 private:
  const std::string& name_of(std::size_t column) const { return table_.columns()[column].name; }

  Status leave_out(std::size_t column, std::string why) {
    plan_.left_out.push_back({name_of(column), std::move(why)});
    return {};
  }

  // `see` is given rows piece by piece.
  template <typename See>
  Status each_chunk(See see) const {
    for (std::size_t at = 0; at < rows_.size(); at += kPlanChunk)
      TRY(see(rows_.subspan(at, std::min(kPlanChunk, rows_.size() - at))));
    return {};
  }

  Status add_number(std::size_t column) {
    Moments moments;
    std::array<float, kPlanChunk> values{};
    TRY(each_chunk([&](std::span<const std::uint32_t> rows) -> Status {
      TRY(table_.floats(column, rows, std::span(values).first(rows.size())));
      for (const float value : std::span(values).first(rows.size()))
        if (!std::isnan(value)) moments.add(value);
      return {};
    }));
    if (moments.count() == 0) return leave_out(column, "it has no values");
    const bool missing = moments.count() < rows_.size();
    if (!moments.varies() && (options_.scaled || !missing))
      return leave_out(column, "it is always the same");
    NumberFeature number{.column = name_of(column),
                         .fill = std::numeric_limits<float>::quiet_NaN()};
    if (options_.scaled) {
      number.fill = number.mean = moments.mean();
      number.deviation = moments.deviation();
    }
    plan_.features.emplace_back(std::move(number));
    return {};
  }

  Status add_date(std::size_t column) {
    std::array<Moments, kDateParts.size()> moments;
    std::array<std::int64_t, kPlanChunk> values{};
    TRY(each_chunk([&](std::span<const std::uint32_t> rows) -> Status {
      TRY(table_.integers(column, rows, std::span(values).first(rows.size())));
      for (const std::int64_t value : std::span(values).first(rows.size())) {
        if (value == kNoDate) continue;
        const auto parts = parts_of(value);
        for (std::size_t i = 0; i < parts.size(); ++i) moments[i].add(parts[i]);
      }
      return {};
    }));
    if (moments[0].count() == 0) return leave_out(column, "it has no values");
    DateFeature date{
        .column = name_of(column), .parts = {}, .fill = std::numeric_limits<float>::quiet_NaN()};
    for (std::size_t i = 0; i < kDateParts.size(); ++i) {
      if (!moments[i].varies()) continue;
      date.parts.push_back(kDateParts[i]);
      if (!options_.scaled) continue;
      date.means.push_back(moments[i].mean());
      date.deviations.push_back(moments[i].deviation());
    }
    if (date.parts.empty()) return leave_out(column, "it is always the same");
    plan_.features.emplace_back(std::move(date));
    return {};
  }

  Status add_category(std::size_t column) {
    const auto& categories = table_.columns()[column].categories;
    std::vector<std::uint64_t> counts(categories.size());
    std::array<std::int32_t, kPlanChunk> codes{};
    TRY(each_chunk([&](std::span<const std::uint32_t> rows) -> Status {
      TRY(table_.codes(column, rows, std::span(codes).first(rows.size())));
      for (const std::int32_t code : std::span(codes).first(rows.size()))
        if (code >= 0) ++counts[static_cast<std::size_t>(code)];
      return {};
    }));
    std::vector<std::size_t> known;
    for (std::size_t i = 0; i < counts.size(); ++i)
      if (counts[i] > 0 && !categories[i].empty()) known.push_back(i);
    if (known.empty()) return leave_out(column, "it has no values");
    if (known.size() == 1 && counts[known[0]] == rows_.size())
      return leave_out(column, "it is always the same");
    CategoryFeature feature{.column = name_of(column), .categories = {}};
    if (known.size() > options_.one_hot) {
      // The most frequent first; of equals, the one that came first.
      std::ranges::sort(known, {}, [&](std::size_t i) {
        return std::pair(std::numeric_limits<std::uint64_t>::max() - counts[i], i);
      });
      feature.code = options_.ranks ? CategoryCode::Ordinal : CategoryCode::OneHot;
      if (!options_.ranks) known.resize(options_.one_hot);
    }
    for (const std::size_t i : known) feature.categories.push_back(categories[i]);
    plan_.features.emplace_back(std::move(feature));
    return {};
  }

  Status add_text(std::size_t column) {
    Vocabulary vocabulary(options_.text_words, options_.text_pairs);
    const Tokenizer tokenizer = TRY(Tokenizer::open(runtime_));
    std::vector<std::string_view> texts;
    TRY(each_chunk([&](std::span<const std::uint32_t> rows) -> Status {
      constexpr std::size_t kTexts = 512;
      for (std::size_t at = 0; at < rows.size(); at += kTexts) {
        const auto piece = rows.subspan(at, std::min(kTexts, rows.size() - at));
        texts.resize(piece.size());
        TRY(table_.texts(column, piece, texts));
        for (const auto& words : TRY(tokenizer.split(texts))) vocabulary.add(words);
      }
      return {};
    }));
    TextFeature text = vocabulary.feature();
    if (text.words.empty()) return leave_out(column, "no word of it is in two rows");
    text.column = name_of(column);
    plan_.features.emplace_back(std::move(text));
    return {};
  }

  const OnnxRuntime& runtime_;
  const TrainTable& table_;
  std::span<const std::uint32_t> rows_;
  const PlanOptions& options_;
  FeaturePlan plan_;
};

Result<GraphValues> read_values(const TrainTable& table, const Feature& feature, std::size_t column,
                                std::span<const std::uint32_t> rows) {
  if (std::holds_alternative<NumberFeature>(feature)) {
    std::vector<float> values(rows.size());
    TRY(table.floats(column, rows, values));
    return GraphValues(std::move(values));
  }
  if (std::holds_alternative<DateFeature>(feature)) {
    std::vector<std::int64_t> values(rows.size());
    TRY(table.integers(column, rows, values));
    return GraphValues(std::move(values));
  }
  std::vector<std::string_view> texts(rows.size());
  TRY(table.texts(column, rows, texts));
  return GraphValues(std::vector<std::string>(texts.begin(), texts.end()));
}

}  // namespace

Result<FeaturePlan> fit_plan(const OnnxRuntime& runtime, const TrainTable& table,
                             std::span<const std::size_t> columns,
                             std::span<const std::uint32_t> rows, const PlanOptions& options) {
  PlanFitter fitter(runtime, table, rows, options);
  for (const std::size_t column : columns) TRY(fitter.add(column));
  return fitter.finish();
}

Result<RowBatch> read_rows(const TrainTable& table, const std::vector<Feature>& features,
                           std::span<const std::uint32_t> rows) {
  RowBatch batch{.rows = rows.size(), .columns = {}};
  for (const Feature& feature : features) {
    const auto column = table.find(column_of(feature));
    if (!column)
      return fail(Code::InvalidArgument,
                  fmt::format("there is no column '{}'", column_of(feature)));
    GraphValues values = TRY(read_values(table, feature, *column, rows));
    batch.columns.push_back({.name = column_of(feature), .values = std::move(values)});
  }
  return batch;
}

Result<FeatureGraph> FeatureGraph::open(const OnnxRuntime& runtime, std::vector<Feature> features,
                                        std::uint32_t threads) {
  OnnxGraph graph("features");
  FeatureMatrix matrix = TRY(add_features(graph, features));
  if (matrix.names.size() > kMostFeatures) {
    return fail(Code::InvalidArgument,
                fmt::format("the columns become {} features, more than {}: encode fewer categories "
                            "(one_hot) or words (text_words), or leave columns out",
                            matrix.names.size(), kMostFeatures));
  }
  const std::array<std::int64_t, 2> shape = {-1, static_cast<std::int64_t>(matrix.names.size())};
  graph.add("Identity", {matrix.name}, "", "matrix");
  graph.add_output("matrix", onnx::TensorProto::FLOAT, shape);
  const std::string model = TRY(graph.serialize());
  GraphSession session = TRY(GraphSession::open(runtime, model, threads));
  return FeatureGraph(std::move(features), std::move(matrix.names), std::move(session));
}

Result<std::vector<float>> FeatureGraph::run(const RowBatch& batch) const {
  static const std::array<std::string, 1> kMatrix = {"matrix"};
  std::vector<GraphOutput> outputs = TRY(session_.run(batch, kMatrix));
  auto* values = std::get_if<std::vector<float>>(&outputs.front().values);
  if (values == nullptr || values->size() != batch.rows * width())
    return fail(Code::Internal, "the feature graph gave no matrix");
  return std::move(*values);
}

Result<Matrix> Matrix::make(const FeatureGraph& graph, const TrainTable& table,
                            std::span<const std::uint32_t> rows, const Path& path) {
  NpyWriter writer = TRY(NpyWriter::create(path, NpyType::Float32, {graph.width()}));
  const std::size_t step = std::clamp<std::size_t>(kMostChunkFloats / graph.width(), 1, kPlanChunk);
  for (std::size_t at = 0; at < rows.size(); at += step) {
    const auto piece = rows.subspan(at, std::min(step, rows.size() - at));
    const RowBatch batch = TRY(read_rows(table, graph.features(), piece));
    const std::vector<float> values = TRY(graph.run(batch));
    TRY(writer.append(std::span<const float>(values)));
  }
  TRY(writer.close());
  NpyColumn column = TRY(NpyColumn::open(path));
  return Matrix(std::move(column), graph.width());
}

}  // namespace mayfly
