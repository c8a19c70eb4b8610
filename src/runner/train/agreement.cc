#include "runner/train/agreement.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace mayfly {
namespace {

constexpr double kParityTolerance = 1e-5;

}  // namespace

std::optional<std::size_t> cluster_said(const GraphValues& values, std::size_t row) {
  const auto* said = std::get_if<std::vector<std::int64_t>>(&values);
  if (said == nullptr || row >= said->size() || (*said)[row] < 0) return std::nullopt;
  return static_cast<std::size_t>((*said)[row]);
}

std::vector<std::uint32_t> spread(std::span<const std::uint32_t> rows, std::size_t most) {
  if (rows.size() <= most) return {rows.begin(), rows.end()};
  std::vector<std::uint32_t> some;
  for (std::size_t i = 0; i < most; ++i) some.push_back(rows[i * rows.size() / most]);
  return some;
}

double Agreement::allowed(double own) const {
  return kParityTolerance * std::max(std::abs(own), scale_);
}

void Agreement::compare_number(const std::string& output, std::size_t row, double said,
                               double own) {
  if (said == own || (std::isnan(said) && std::isnan(own))) return;
  const double allowed = kParityTolerance * std::max(std::abs(own), scale_);
  const double difference = std::abs(said - own);
  const double excess =
      std::isfinite(difference) ? difference / allowed : std::numeric_limits<double>::infinity();
  if (excess <= excess_) return;
  excess_ = excess;
  worst_ = Json{{"output", output},         {"onnx", said},       {"trainer", own},
                {"difference", difference}, {"allowed", allowed}, {"from", rows_.from(row)},
                {"row", rows_.shown(row)}};
}

void Agreement::compare_label(const GraphValues& labels, std::size_t row,
                              std::span<const float> own) {
  const auto best = static_cast<std::size_t>(std::ranges::max_element(own) - own.begin());
  const auto said = classes_.place_of(labels, row);
  if (said == best) return;
  const bool tie =
      said && *said < own.size() &&
      std::abs(static_cast<double>(own[*said]) - static_cast<double>(own[best])) < kParityTolerance;
  tie_or_mismatch(tie, "label", row, said ? Json(classes_.text(*said)) : Json(),
                  Json(classes_.text(best)));
}

void Agreement::compare_cluster(std::optional<std::size_t> said, std::size_t row, std::size_t own,
                                double distance, std::optional<double> gap) {
  if (said == own) return;
  const double allowed = kParityTolerance * std::max(std::abs(distance), scale_);
  tie_or_mismatch(said && gap && std::abs(*gap) < allowed, "cluster", row,
                  said ? Json(*said) : Json(), Json(own));
}

void Agreement::tie_or_mismatch(bool tie, const char* output, std::size_t row, Json said,
                                Json own) {
  if (tie) {
    ++ties_;
    return;
  }
  if (mismatches_++ > 0) return;
  excess_ = std::numeric_limits<double>::infinity();
  worst_ = Json{{"output", output},
                {"onnx", std::move(said)},
                {"trainer", std::move(own)},
                {"from", rows_.from(row)},
                {"row", rows_.shown(row)}};
}

ParityReport Agreement::report(std::size_t rows, Json counts) const {
  return {.passed = mismatches_ == 0 && excess_ <= 1,
          .details = Json{{"rows", rows},
                          {"from", std::move(counts)},
                          {"label_mismatches", mismatches_},
                          {"ties", ties_},
                          {"worst", worst_}}};
}

}  // namespace mayfly
