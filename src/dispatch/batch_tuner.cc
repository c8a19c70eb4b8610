#include "dispatch/batch_tuner.h"

#include <algorithm>
#include <bit>

#include "dispatch/value.h"

namespace mayfly {
namespace {

// What a row may cost beside the cheapest size before it counts as dearer: noise is below it.
constexpr double kDearer = 1.1;

}  // namespace

// Powers of two and the sizes half-way between them: 1 2 3 4 6 8 12 16 24 …
std::uint32_t BatchTuner::bin_of(std::uint64_t rows) {
  const std::uint64_t power = std::bit_floor(std::max<std::uint64_t>(rows, 1));
  const bool upper = power > 1 && rows >= power + power / 2;
  return static_cast<std::uint32_t>(upper ? power + power / 2 : power);
}

void BatchTuner::ran(std::uint64_t rows, Duration run, Load load) {
  const std::uint32_t bin = bin_of(rows);
  Size& size = sizes_[bin];
  size.rows = bin;
  ++size.batches;
  follow(size.row, run / static_cast<std::int64_t>(rows));
  if (batching_.mode == BatchMode::Auto && rows > 1) grow_or_shrink(rows, run, load);
}

void BatchTuner::grow_or_shrink(std::uint64_t rows, Duration run, Load load) {
  if (run > batching_.target) return shrink(rows);
  const Size& best = cheapest();
  ++tried_;
  if (tried_ >= kMeasured && alone_ != Duration::zero() && best.row + kComposing >= alone_) {
    cap_ = 1;
    tried_ = 0;
    return;
  }
  // Only a full batch says something of its size, and only when more waited.
  if (load == Load::Light || 4 * rows < std::uint64_t{3} * cap_) return;
  const Duration row = sizes_.at(bin_of(rows)).row;
  if (static_cast<double>(row.count()) > kDearer * static_cast<double>(best.row.count())) {
    cap_ = std::max({best.rows, 2U, cap_ - cap_ / 4});
  } else {
    cap_ = std::min(cap_ + kStep, batching_.max_rows);
  }
}

// Of what has run as a batch.
const BatchTuner::Size& BatchTuner::cheapest() const {
  const auto cheaper = [](const auto& a, const auto& b) { return a.second.row < b.second.row; };
  return std::ranges::min_element(sizes_, cheaper)->second;
}

void BatchTuner::shrink(std::uint64_t from) {
  const auto rows = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(from, 1, cap_));
  cap_ = rows - (rows > 1 ? std::max(1U, rows / 4) : 0);
  if (cap_ == 1) tried_ = 0;
}

void BatchTuner::ran_alone(Duration share, Load load) {
  if (batching_.mode != BatchMode::Auto || cap_ > 1 || load == Load::Light) return;
  follow(alone_, share);
  const std::uint32_t wanted = sizes_.empty() ? kMeasured : kLookAgain;
  if (++tried_ < wanted || 2 * share > batching_.target) return;
  tried_ = 0;
  cap_ = 2;
  sizes_.clear();
}

void BatchTuner::failed(std::uint64_t rows) {
  if (batching_.mode == BatchMode::Auto) shrink(rows / 2);
}

Duration BatchTuner::expected(std::uint64_t rows) const {
  rows = std::min<std::uint64_t>(rows, kLargestBatch);
  if (sizes_.empty()) return alone_ * static_cast<std::int64_t>(rows);
  auto known = sizes_.upper_bound(bin_of(rows));
  if (known != sizes_.begin()) --known;
  return known->second.row * static_cast<std::int64_t>(rows);
}

std::vector<BatchTuner::Size> BatchTuner::sizes() const {
  std::vector<Size> list;
  for (const auto& [bin, size] : sizes_) list.push_back(size);
  return list;
}

}  // namespace mayfly
