#include "validation/calibration.h"

#include <algorithm>

namespace mayfly::validation {

std::vector<CalibrationBin> calibration(const ClassPredictions& predictions) {
  std::vector<CalibrationBin> bins(kCalibrationBins);
  constexpr auto kBins = static_cast<double>(kCalibrationBins);
  for (std::size_t i = 0; i < bins.size(); ++i) {
    bins[i].low = static_cast<double>(i) / kBins;
    bins[i].high = static_cast<double>(i + 1) / kBins;
  }
  for (std::size_t row = 0; row < predictions.rows(); ++row) {
    const std::uint32_t label = predictions.label(row);
    const double confidence = predictions.row(row)[label];
    const auto index = static_cast<std::size_t>(confidence * kBins);
    CalibrationBin& bin = bins[std::min(index, bins.size() - 1)];
    ++bin.rows;
    bin.confidence += confidence;
    if (label == predictions.truth[row]) ++bin.accuracy;
  }
  for (CalibrationBin& bin : bins) {
    if (bin.rows == 0) continue;
    bin.confidence /= static_cast<double>(bin.rows);
    bin.accuracy /= static_cast<double>(bin.rows);
  }
  return bins;
}

}  // namespace mayfly::validation
