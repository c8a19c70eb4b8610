#include "lineage/score_files.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>
#include <vector>

#include "core/reason.h"
#include "runner/dataset/npy.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMostScored = std::uint64_t{1} << 28;  // numbers of a file

Result<NpyColumn> open_scored(const Path& path) {
  auto column = NpyColumn::open(path);
  if (!column)
    return refuse(reason::kBadReply, "the scoring left no array: " + column.error().message);
  std::uint64_t elements = 1;
  for (const std::uint64_t side : column->shape()) elements *= std::min(side, kMostScored + 1);
  if (column->shape().size() <= 2 && elements <= kMostScored) return column;
  return refuse(reason::kBadReply, "the scoring left an array that is too large");
}

template <typename T>
void copy_numbers(const NpyColumn& column, std::vector<double>& into) {
  for (const T value : column.as<T>()) into.push_back(static_cast<double>(value));
}

std::vector<double> numbers_of(const NpyColumn& column) {
  std::vector<double> numbers;
  numbers.reserve(column.rows());
  switch (column.type()) {
    case NpyType::Float32:
      copy_numbers<float>(column, numbers);
      break;
    case NpyType::Float64:
      copy_numbers<double>(column, numbers);
      break;
    case NpyType::Int32:
      copy_numbers<std::int32_t>(column, numbers);
      break;
    case NpyType::Int64:
      copy_numbers<std::int64_t>(column, numbers);
      break;
    case NpyType::UInt8:
      copy_numbers<std::uint8_t>(column, numbers);
      break;
    case NpyType::UInt64:
      copy_numbers<std::uint64_t>(column, numbers);
      break;
  }
  return numbers;
}

Result<validation::Predictions> classes_of(std::size_t classes, const std::vector<double>& truth,
                                           const std::vector<double>& output) {
  validation::ClassPredictions some{.classes = classes, .truth = {}, .probabilities = {}};
  for (const double place : truth) {
    if (!(place >= 0 && place < static_cast<double>(classes) && place == std::floor(place)))
      return refuse(reason::kBadReply, "the scoring left a row without a class");
    some.truth.push_back(static_cast<std::uint32_t>(place));
  }
  for (const double probability : output)
    some.probabilities.push_back(static_cast<float>(probability));
  return some;
}

}  // namespace

Result<validation::Predictions> read_predictions(TrainTask task, std::size_t classes,
                                                 const ScoreFiles& files) {
  const NpyColumn truth = TRY(open_scored(files.truth));
  const NpyColumn output = TRY(open_scored(files.output));
  validation::Predictions predictions;
  if (is_classification(task)) {
    predictions = TRY(classes_of(classes, numbers_of(truth), numbers_of(output)));
  } else {
    predictions =
        validation::ValuePredictions{.truth = numbers_of(truth), .value = numbers_of(output)};
  }
  if (const Status good = validation::check(predictions); !good)
    return refuse(reason::kBadReply, "the scoring left what cannot be: " + good.error().message);
  return predictions;
}

Result<std::vector<std::vector<std::uint32_t>>> read_slices(const Path& file, std::size_t values,
                                                            std::size_t rows) {
  const NpyColumn column = TRY(open_scored(file));
  if (column.type() != NpyType::Int32 || column.shape().size() != 1 || column.rows() != rows)
    return refuse(reason::kBadReply, "the scoring left slices of other rows than it scored");
  std::vector<std::vector<std::uint32_t>> slices(values);
  std::uint32_t row = 0;
  for (const std::int32_t place : column.as<std::int32_t>()) {
    if (place < -1 || place >= static_cast<std::int64_t>(values))
      return refuse(reason::kBadReply, "the scoring left a row of a slice that it does not list");
    if (place >= 0) slices[static_cast<std::size_t>(place)].push_back(row);
    ++row;
  }
  return slices;
}

}  // namespace mayfly
