// How columns become the matrix that a trainer sees. A plan holds what was fitted on training rows;
// the graph made of it is the only implementation there is: training asks it for its matrix, too,
// so that serving cannot differ.
//
// Inputs of the graph are the columns by name, each [-1]: numbers FLOAT (NaN: missing), categories
// and texts STRING (empty: missing), dates INT64, UTC milliseconds since 1970 (INT64_MIN: missing).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "runner/train/onnx_graph.h"

namespace mayfly {

struct NumberFeature {
  std::string column;
  float fill = 0;       // for missing values; NaN: they stay missing
  float mean = 0;       // taken off,
  float deviation = 1;  // then divided by; not 0
};

enum class CategoryCode : std::uint8_t {
  OneHot,   // a feature a category; none for what is unknown or missing
  Ordinal,  // one feature: the category's place; NaN for what is unknown or missing
};

struct CategoryFeature {
  std::string column;
  std::vector<std::string> categories;  // different, at least one
  CategoryCode code = CategoryCode::OneHot;
};

enum class DatePart : std::uint8_t {
  Year,
  Month,
  Day,
  Weekday,
  Hour,
  Days
};  // Monday: 0; Days: since 1970

struct DateFeature {
  std::string column;
  std::vector<DatePart> parts;
  float fill = 0;  // of each part where the date is missing; may be NaN
  // By part, as in NumberFeature; empty: as they are. With them a missing date is the mean of all.
  std::vector<float> means = {};
  std::vector<float> deviations = {};
};

// Bags of words: in lower case, split at spaces (ONNX Runtime's StringSplit does not split at tabs
// and line ends).
struct TextFeature {
  std::string column;
  std::vector<std::string> words;                          // 1-grams
  std::vector<std::pair<std::string, std::string>> pairs;  // 2-grams
  std::vector<float> weights;  // by word, then by pair: inverse document frequency; counts × weight
};

using Feature = std::variant<NumberFeature, CategoryFeature, DateFeature, TextFeature>;

// Dates outside the years 1 to 9999 count as the nearest of them.
struct FeatureMatrix {
  std::string name;                // FLOAT[-1, names.size()]
  std::vector<std::string> names;  // "age", "colour=red", "day.weekday", "review:good"
};

// Adds the graph's inputs and the nodes that make the matrix. InvalidArgument names the column that
// cannot be. `outputs`: names that the graph's outputs will have, and columns must not.
Result<FeatureMatrix> add_features(OnnxGraph& graph, const std::vector<Feature>& plan,
                                   std::span<const std::string_view> outputs = {});

// STRING[rows] → STRING[rows, words of the longest], filled up with empty ones.
std::string add_words(OnnxGraph& graph, const std::string& texts);

const std::string& column_of(const Feature& feature);

}  // namespace mayfly
