#include "runner/train/features.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <span>
#include <string_view>
#include <utility>

namespace mayfly {
namespace {

using onnx::TensorProto;

constexpr std::array<std::int64_t, 1> kFree = {-1};
constexpr std::array<std::int64_t, 2> kColumn = {-1, 1};
constexpr std::int64_t kMissingDate = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kHour = 3'600'000;
constexpr std::int64_t kDay = 24 * kHour;
// From 0000-03-01, where 400-year eras begin, to 1970-01-01.
constexpr std::int64_t kEraDays = 719'468;
constexpr std::int64_t kFirst = -62'135'596'800'000;  // 0001-01-01
constexpr std::int64_t kLast = 253'402'300'799'999;   // the end of 9999

std::unexpected<Error> wrong(std::string_view column, std::string_view what) {
  return fail(Code::InvalidArgument, fmt::format("column '{}' {}", column, what));
}

std::string_view to_string(DatePart part) {
  constexpr std::array<std::string_view, 6> kNames = {"year",    "month", "day",
                                                      "weekday", "hour",  "days"};
  return kNames.at(static_cast<std::size_t>(part));
}

// Arithmetic of int64 columns, as nodes.
class Whole {
 public:
  Whole(OnnxGraph& graph, std::string name) : graph_(&graph), name_(std::move(name)) {}
  const std::string& name() const { return name_; }
  Whole operator+(std::int64_t number) const { return with("Add", number); }
  Whole operator-(std::int64_t number) const { return with("Sub", number); }
  Whole operator*(std::int64_t number) const { return with("Mul", number); }
  Whole operator/(std::int64_t number) const {
    return with("Div", number);
  }  // of what is not negative
  Whole operator%(std::int64_t number) const { return with("Mod", number); }
  Whole operator+(const Whole& other) const { return with("Add", other.name_); }
  Whole operator-(const Whole& other) const { return with("Sub", other.name_); }
  Whole less_than(std::int64_t number) const {  // 1 or 0
    const std::string truth = graph_->add("Less", {name_, constant(number)});
    Whole whole(*graph_, graph_->add("Cast", {truth}));
    set_attribute(graph_->last(), "to", std::int64_t{TensorProto::INT64});
    return whole;
  }
  Whole within(std::int64_t low, std::int64_t high) const {
    return {*graph_, graph_->add("Clip", {name_, constant(low), constant(high)})};
  }
  std::string is(std::int64_t number) const {
    return graph_->add("Equal", {name_, constant(number)});
  }
  std::string as_float() const {
    std::string cast = graph_->add("Cast", {name_});
    set_attribute(graph_->last(), "to", std::int64_t{TensorProto::FLOAT});
    return cast;
  }

 private:
  std::string constant(std::int64_t number) const {
    return graph_->add_integers("whole", std::span(&number, 1), {});
  }
  Whole with(std::string_view operation, const std::string& other) const {
    return {*graph_, graph_->add(operation, {name_, other})};
  }
  Whole with(std::string_view operation, std::int64_t number) const {
    return with(operation, constant(number));
  }

  OnnxGraph* graph_;
  std::string name_;
};

bool all_scales(const DateFeature& date) {
  return std::ranges::all_of(date.means, [](float mean) { return std::isfinite(mean); }) &&
         std::ranges::all_of(date.deviations,
                             [](float one) { return std::isfinite(one) && one != 0; });
}

std::string add_number(OnnxGraph& graph, float number) {
  return graph.add_floats("number", std::span(&number, 1), {});
}

std::string as_column(OnnxGraph& graph, const std::string& name) {
  return graph.add("Reshape",
                   {name, graph.add_integers("column", kColumn, std::array<std::int64_t, 1>{2})});
}

class Builder {
 public:
  explicit Builder(OnnxGraph& graph) : graph_(graph) {}

  Status add(const NumberFeature& number) {
    if (!std::isfinite(number.mean) || !std::isfinite(number.deviation) || number.deviation == 0)
      return wrong(number.column, "has no scale");
    graph_.add_input(number.column, TensorProto::FLOAT, kFree);
    std::string value = number.column;
    if (!std::isnan(number.fill)) {
      const std::string missing = graph_.add("IsNaN", {value});
      value = graph_.add("Where", {missing, add_number(graph_, number.fill), value});
    }
    if (number.mean != 0) value = graph_.add("Sub", {value, add_number(graph_, number.mean)});
    if (number.deviation != 1)
      value = graph_.add("Div", {value, add_number(graph_, number.deviation)});
    append(as_column(graph_, value), {number.column});
    return {};
  }

  Status add(const CategoryFeature& category) {
    const std::set<std::string> different(category.categories.begin(), category.categories.end());
    if (different.empty() || different.size() != category.categories.size())
      return wrong(category.column, "has no categories, or one of them twice");
    graph_.add_input(category.column, TensorProto::STRING, kFree);
    const std::span<const std::string> all = category.categories;
    if (category.code == CategoryCode::Ordinal) {
      std::vector<float> places;
      for (std::size_t i = 0; i < all.size(); ++i) places.push_back(static_cast<float>(i));
      const std::string place = graph_.add("LabelEncoder", {category.column}, kOnnxMl);
      set_attribute(graph_.last(), "keys_strings", all);
      set_attribute(graph_.last(), "values_floats", std::span<const float>(places));
      set_attribute(graph_.last(), "default_float", std::numeric_limits<float>::quiet_NaN());
      append(as_column(graph_, place), {category.column});
      return {};
    }
    const std::string ones = graph_.add("OneHotEncoder", {category.column}, kOnnxMl);
    set_attribute(graph_.last(), "cats_strings", all);
    set_attribute(graph_.last(), "zeros", std::int64_t{1});
    std::vector<std::string> names;
    for (const std::string& one : all) names.push_back(fmt::format("{}={}", category.column, one));
    append(ones, std::move(names));
    return {};
  }

  // Year, month and day by Hinnant's civil_from_days: eras of 400 years that begin in March.
  Status add(const DateFeature& date) {
    if (date.parts.empty()) return wrong(date.column, "has no parts");
    const bool scaled = !date.means.empty();
    if (scaled && (date.means.size() != date.parts.size() ||
                   date.deviations.size() != date.parts.size() || !all_scales(date)))
      return wrong(date.column, "has parts without a scale");
    graph_.add_input(date.column, TensorProto::INT64, kFree);
    const Whole given(graph_, date.column);
    const std::string missing = given.is(kMissingDate);
    const Whole time = given.within(kFirst, kLast) + kEraDays * kDay;
    const Whole days = time / kDay;
    const Whole of_era = days % 146'097;
    const Whole year_of_era = (of_era - of_era / 1'460 + of_era / 36'524 - of_era / 146'096) / 365;
    const Whole of_year = of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
    const Whole from_march = (of_year * 5 + 2) / 153;
    const Whole early = from_march.less_than(10);  // March to December
    const Whole month = from_march - 9 + early * 12;
    for (std::size_t i = 0; i < date.parts.size(); ++i) {
      const DatePart part = date.parts[i];
      const std::string value = [&] {
        switch (part) {
          case DatePart::Year:
            return (year_of_era + (days / 146'097) * 400 + 1 - early).as_float();
          case DatePart::Month:
            return month.as_float();
          case DatePart::Day:
            return (of_year - (from_march * 153 + 2) / 5 + 1).as_float();
          case DatePart::Weekday:
            return ((days + 2) % 7).as_float();
          case DatePart::Hour:
            return ((time / kHour) % 24).as_float();
          case DatePart::Days:
            return (days - kEraDays).as_float();
        }
        return std::string();
      }();
      const float fill = scaled ? date.means[i] : date.fill;
      std::string filled = graph_.add("Where", {missing, add_number(graph_, fill), value});
      if (scaled) {
        filled = graph_.add("Sub", {filled, add_number(graph_, date.means[i])});
        filled = graph_.add("Div", {filled, add_number(graph_, date.deviations[i])});
      }
      append(as_column(graph_, filled), {fmt::format("{}.{}", date.column, to_string(part))});
    }
    return {};
  }

  Status add(const TextFeature& text) {
    const std::size_t grams = text.words.size() + text.pairs.size();
    if (text.words.empty() || text.weights.size() != grams)
      return wrong(text.column, "has no words, or not as many weights as words and pairs");
    graph_.add_input(text.column, TensorProto::STRING, kFree);
    const std::string words = add_words(graph_, text.column);
    std::vector<std::string> pool = text.words;
    std::vector<std::string> names;
    for (const std::string& word : text.words)
      names.push_back(fmt::format("{}:{}", text.column, word));
    for (const auto& [first, second] : text.pairs) {
      pool.insert(pool.end(), {first, second});
      names.push_back(fmt::format("{}:{} {}", text.column, first, second));
    }
    std::vector<std::int64_t> starts = {0};  // in the pool, by length of the gram
    if (!text.pairs.empty()) starts.push_back(static_cast<std::int64_t>(text.words.size()));
    std::vector<std::int64_t> places;
    for (std::size_t i = 0; i < grams; ++i) places.push_back(static_cast<std::int64_t>(i));
    const std::string bag = graph_.add("TfIdfVectorizer", {words});
    onnx::NodeProto& node = graph_.last();
    set_attribute(node, "mode", std::string_view("TFIDF"));
    set_attribute(node, "min_gram_length", std::int64_t{1});
    set_attribute(node, "max_gram_length", static_cast<std::int64_t>(starts.size()));
    set_attribute(node, "max_skip_count", std::int64_t{0});
    set_attribute(node, "ngram_counts", std::span<const std::int64_t>(starts));
    set_attribute(node, "ngram_indexes", std::span<const std::int64_t>(places));
    set_attribute(node, "pool_strings", std::span<const std::string>(pool));
    set_attribute(node, "weights", std::span<const float>(text.weights));
    append(bag, std::move(names));
    return {};
  }

  FeatureMatrix finish() {
    if (parts_.size() == 1) return {parts_.front(), std::move(names_)};
    std::string matrix = graph_.add("Concat", parts_);
    set_attribute(graph_.last(), "axis", std::int64_t{1});
    return {std::move(matrix), std::move(names_)};
  }

 private:
  void append(std::string part, std::vector<std::string> names) {
    parts_.push_back(std::move(part));
    names_.insert(names_.end(), std::make_move_iterator(names.begin()),
                  std::make_move_iterator(names.end()));
  }

  OnnxGraph& graph_;
  std::vector<std::string> parts_;
  std::vector<std::string> names_;
};

}  // namespace

const std::string& column_of(const Feature& feature) {
  return std::visit([](const auto& some) -> const std::string& { return some.column; }, feature);
}

std::string add_words(OnnxGraph& graph, const std::string& texts) {
  const std::string lower = graph.add("StringNormalizer", {texts});
  set_attribute(graph.last(), "case_change_action", std::string_view("LOWER"));
  // The operator's own default is a locale that servers lack; this one is part of the C library.
  set_attribute(graph.last(), "locale", std::string_view("C.UTF-8"));
  std::string words = graph.add("StringSplit", {lower});
  graph.last().add_output(graph.fresh("counts"));
  return words;
}

Result<FeatureMatrix> add_features(OnnxGraph& graph, const std::vector<Feature>& plan,
                                   std::span<const std::string_view> outputs) {
  if (plan.empty()) return fail(Code::InvalidArgument, "there are no columns to learn from");
  std::set<std::string> columns;
  Builder builder(graph);
  for (const Feature& feature : plan) {
    if (!columns.insert(column_of(feature)).second)
      return wrong(column_of(feature), "is there twice");
    if (OnnxGraph::is_reserved(column_of(feature)) ||
        std::ranges::find(outputs, column_of(feature)) != outputs.end())
      return wrong(column_of(feature), "has the name of an output: rename it, or leave it out");
    TRY(std::visit([&](const auto& some) { return builder.add(some); }, feature));
  }
  return builder.finish();
}

}  // namespace mayfly
