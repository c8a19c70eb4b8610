// Whether a model's probabilities are what happens: of the rows that it gives 80 %, it should be
// right about 80 % (Guo et al. 2017, "On Calibration of Modern Neural Networks").
#pragma once

#include <cstddef>
#include <vector>

#include "validation/predictions.h"

namespace mayfly::validation {

inline constexpr std::size_t kCalibrationBins = 15;

// Rows whose likeliest class has a probability above `low`, up to `high`.
struct CalibrationBin {
  double low = 0, high = 1;
  std::size_t rows = 0;
  double confidence = 0;  // the mean probability of the class that was said
  double accuracy = 0;    // the share of rows that are of it
};

// kCalibrationBins equal bins from 0 to 1, empty ones too. What metric `ece` weighs.
std::vector<CalibrationBin> calibration(const ClassPredictions& predictions);

}  // namespace mayfly::validation
