#include "sketch/quantile_sketch.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace mayfly {
namespace {

constexpr std::size_t kTopCapacity = 200;
constexpr double kShrink = 2.0 / 3.0;
constexpr std::size_t kLeastCapacity = 8;
constexpr std::size_t kMostLevels = 60;
constexpr std::size_t kMostHeld = 4096;

}  // namespace

// Of the highest level k, of each below it two thirds of that.
std::size_t QuantileSketch::capacity(std::size_t level) const {
  const auto below = static_cast<double>(levels_.size() - 1 - level);
  const double share = std::pow(kShrink, below) * static_cast<double>(kTopCapacity);
  return std::max(kLeastCapacity, static_cast<std::size_t>(std::ceil(share)));
}

bool QuantileSketch::coin() {  // xorshift64 (Marsaglia 2003)
  bits_ ^= bits_ << 13U;
  bits_ ^= bits_ >> 7U;
  bits_ ^= bits_ << 17U;
  return (bits_ >> 32U & 1U) != 0;
}

void QuantileSketch::add(double value) {
  levels_[0].push_back(value);
  ++held_;
  ++count_;
  min_ = std::min(min_, value);
  max_ = std::max(max_, value);
  if (levels_[0].size() >= capacity(0)) compress();
}

// Every level that is full gives half of its values to the next one, from the lowest up.
void QuantileSketch::compress() {
  for (std::size_t level = 0; level < levels_.size(); ++level) {
    if (levels_[level].size() < capacity(level)) continue;
    if (level + 1 == levels_.size()) levels_.emplace_back();
    std::vector<double>& from = levels_[level];
    std::ranges::sort(from);
    // An odd one stays.
    std::vector<double> rest;
    if (from.size() % 2 == 1) {
      rest.push_back(from.back());
      from.pop_back();
    }
    for (std::size_t i = coin() ? 1 : 0; i < from.size(); i += 2)
      levels_[level + 1].push_back(from[i]);
    held_ -= from.size() / 2;
    from = std::move(rest);
  }
}

void QuantileSketch::merge(const QuantileSketch& other) {
  while (levels_.size() < other.levels_.size()) levels_.emplace_back();
  for (std::size_t level = 0; level < other.levels_.size(); ++level) {
    const std::vector<double>& from = other.levels_[level];
    levels_[level].insert(levels_[level].end(), from.begin(), from.end());
  }
  held_ += other.held_;
  count_ += other.count_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
  compress();
}

std::vector<QuantileSketch::Weighted> QuantileSketch::sorted() const {
  std::vector<Weighted> all;
  all.reserve(held_);
  for (std::size_t level = 0; level < levels_.size(); ++level) {
    for (const double value : levels_[level]) all.push_back({value, std::uint64_t{1} << level});
  }
  std::ranges::sort(all, {}, &Weighted::value);
  return all;
}

double QuantileSketch::quantile(double share) const { return quantiles({share})[0]; }

std::vector<double> QuantileSketch::quantiles(const std::vector<double>& shares) const {
  std::vector<double> found;
  const std::vector<Weighted> all = sorted();
  std::size_t next = 0;
  std::uint64_t below = 0;
  for (const double share : shares) {
    if (count_ == 0) {
      found.push_back(std::numeric_limits<double>::quiet_NaN());
    } else if (share <= 0) {
      found.push_back(min_);
    } else if (share >= 1) {
      found.push_back(max_);
    } else {
      const double wanted = share * static_cast<double>(count_);
      while (next + 1 < all.size() && static_cast<double>(below + all[next].weight) < wanted)
        below += all[next++].weight;
      found.push_back(all[next].value);
    }
  }
  return found;
}

std::vector<double> QuantileSketch::ranks(const std::vector<double>& values) const {
  std::vector<double> found;
  const std::vector<Weighted> all = sorted();
  std::size_t next = 0;
  std::uint64_t below = 0;
  for (const double value : values) {
    while (next < all.size() && all[next].value <= value) below += all[next++].weight;
    const double share = count_ == 0 ? 0 : static_cast<double>(below) / static_cast<double>(count_);
    found.push_back(value >= max_ ? 1.0 : share);
  }
  return found;
}

void QuantileSketch::append_to(std::string& out) const {
  append_value(out, min_);
  append_value(out, max_);
  append_value(out, bits_);
  append_value(out, static_cast<std::uint32_t>(levels_.size()));
  for (const std::vector<double>& level : levels_) {
    append_value(out, static_cast<std::uint32_t>(level.size()));
    for (const double value : level) append_value(out, value);
  }
}

Result<QuantileSketch> QuantileSketch::parse(ByteReader& reader) {
  const auto damaged = [] { return fail(Code::DataLoss, "a sketch of quantiles is damaged"); };
  QuantileSketch sketch;
  sketch.min_ = TRY(reader.value<double>());
  sketch.max_ = TRY(reader.value<double>());
  sketch.bits_ = TRY(reader.value<std::uint64_t>());
  const auto levels = TRY(reader.value<std::uint32_t>());
  if (levels == 0 || levels > kMostLevels || sketch.bits_ == 0) return damaged();
  sketch.levels_.assign(levels, {});
  for (std::size_t level = 0; level < levels; ++level) {
    const auto values = TRY(reader.value<std::uint32_t>());
    sketch.held_ += values;
    if (sketch.held_ > kMostHeld) return damaged();
    for (std::uint32_t i = 0; i < values; ++i) {
      const auto value = TRY(reader.value<double>());
      // What was merged may lie between, but never outside.
      if (!(value >= sketch.min_ && value <= sketch.max_)) return damaged();
      sketch.levels_[level].push_back(value);
    }
    // 60 levels of at most 4096 values: the sum stays below 2^63 only if the last are few.
    std::uint64_t weight = 0;
    if (__builtin_mul_overflow(std::uint64_t{values}, std::uint64_t{1} << level, &weight) ||
        __builtin_add_overflow(sketch.count_, weight, &sketch.count_)) {
      return damaged();
    }
  }
  const bool empty = sketch.count_ == 0;
  if (empty && (sketch.min_ != kInfinity || sketch.max_ != -kInfinity)) return damaged();
  if (!empty && !(std::isfinite(sketch.min_) && std::isfinite(sketch.max_))) return damaged();
  return sketch;
}

}  // namespace mayfly
