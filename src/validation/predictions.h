// What a model said of rows whose truth is known, in the form that metrics read. Values only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "base/result.h"

namespace mayfly::validation {

// Rows of a classification. Class c of row r has probability probabilities[r * classes + c].
struct ClassPredictions {
  std::size_t classes = 0;           // at least 2; of two, class 1 is the positive one
  std::vector<std::uint32_t> truth;  // below `classes`
  std::vector<float> probabilities;

  std::size_t rows() const { return truth.size(); }
  std::span<const float> row(std::size_t index) const {
    return std::span(probabilities).subspan(index * classes, classes);
  }
  // The likeliest class; the first of equals, as ArgMax does.
  std::uint32_t label(std::size_t index) const;
};

// Of a recommendation each row is a user: `truth` is how many of his items were held out, `value`
// what his list is worth by the metric that is asked for.
struct ValuePredictions {
  std::vector<double> truth;
  std::vector<double> value;

  std::size_t rows() const { return truth.size(); }
};

using Predictions = std::variant<ClassPredictions, ValuePredictions>;

std::size_t rows_of(const Predictions& predictions);
// Sizes that fit, classes that exist, finite numbers, probabilities of 0 to 1 that add up to 1
// (within 1e-3): InvalidArgument names the first row that is wrong.
Status check(const Predictions& predictions);

}  // namespace mayfly::validation
