#include "validation/predictions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace mayfly::validation {
namespace {

constexpr double kSumTolerance = 1e-3;

std::unexpected<Error> wrong(std::size_t row, std::string_view what) {
  return fail(Code::InvalidArgument, fmt::format("row {}: {}", row, what));
}

Status check(const ClassPredictions& predictions) {
  if (predictions.classes < 2) return fail(Code::InvalidArgument, "there is only one class");
  if (predictions.probabilities.size() != predictions.rows() * predictions.classes)
    return fail(Code::InvalidArgument, "there are not as many probabilities as rows × classes");
  for (std::size_t row = 0; row < predictions.rows(); ++row) {
    if (predictions.truth[row] >= predictions.classes)
      return wrong(row, "its class does not exist");
    double sum = 0;
    for (const float probability : predictions.row(row)) {
      if (!(probability >= 0 && probability <= 1))
        return wrong(row, "a probability is not from 0 to 1");
      sum += probability;
    }
    if (std::abs(sum - 1) > kSumTolerance)
      return wrong(row, "its probabilities do not add up to 1");
  }
  return {};
}

Status check(const ValuePredictions& predictions) {
  if (predictions.value.size() != predictions.rows())
    return fail(Code::InvalidArgument, "there are not as many values as rows");
  for (std::size_t row = 0; row < predictions.rows(); ++row) {
    if (!std::isfinite(predictions.truth[row]) || !std::isfinite(predictions.value[row]))
      return wrong(row, "a value is not finite");
  }
  return {};
}

}  // namespace

std::uint32_t ClassPredictions::label(std::size_t index) const {
  const auto probabilities_of_row = row(index);
  return static_cast<std::uint32_t>(std::ranges::max_element(probabilities_of_row) -
                                    probabilities_of_row.begin());
}

std::size_t rows_of(const Predictions& predictions) {
  return std::visit([](const auto& some) { return some.rows(); }, predictions);
}

Status check(const Predictions& predictions) {
  if (rows_of(predictions) == 0) return fail(Code::InvalidArgument, "there are no rows");
  return std::visit([](const auto& some) { return check(some); }, predictions);
}

}  // namespace mayfly::validation
