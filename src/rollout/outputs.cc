#include "rollout/outputs.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace mayfly::rollout {
namespace {

constexpr double kLargestValue = 1e100;
// Means closer than this, relative to their size, differ by rounding.
constexpr double kSameMean = 1e-9;

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9U;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

std::uint64_t bits_of(double value) {
  if (value == 0) value = 0;  // -0 and 0 are one value
  return std::isnan(value) ? ~std::uint64_t{0} : std::bit_cast<std::uint64_t>(value);
}

}  // namespace

void Moments::add(double value) { merge({.count = 1, .mean = value, .low = value, .high = value}); }

void Moments::merge(const Moments& other) {
  if (other.count == 0) return;
  const double other_mean = std::clamp(other.mean, -kLargestValue, kLargestValue);
  if (count == 0) {
    *this = other;
    mean = other_mean;
    return;
  }
  const auto here = static_cast<double>(count);
  const auto there = static_cast<double>(other.count);
  const double share = there / (here + there);
  const double delta = other_mean - mean;
  mean += delta * share;
  squares += other.squares + delta * delta * here * share;
  low = std::min(low, other.low);
  high = std::max(high, other.high);
  count += other.count;
}

double Moments::variance() const {
  return count < 2 ? 0 : squares / static_cast<double>(count - 1);
}

void OutputSummary::add(double value) {
  const std::uint64_t bits = bits_of(value);
  if (moments_.count + non_finite_ == 0) first_ = bits;
  uniform_ = uniform_ && bits == first_;
  chain_ = mix(chain_ + bits + 0x9e3779b97f4a7c15U);
  if (std::isfinite(value)) {
    moments_.add(value);
  } else {
    ++non_finite_;
  }
}

std::uint64_t OutputSummary::fingerprint() const { return uniform_ ? mix(first_ + 1) : chain_; }

void OutputEvidence::add(const OutputSummary& summary) {
  OutputEvidence one{.replies = 1,
                     .non_finite = summary.non_finite(),
                     .non_finite_replies = summary.non_finite() > 0 ? 1U : 0U,
                     .moments = summary.moments(),
                     .first_print = summary.fingerprint()};
  one.prints.at(one.first_print % kPrints) = 1;
  merge(one);
}

void OutputEvidence::merge(const OutputEvidence& other) {
  if (other.replies == 0) return;
  varied = varied || other.varied || (replies > 0 && first_print != other.first_print);
  if (replies == 0) first_print = other.first_print;
  replies += other.replies;
  non_finite += other.non_finite;
  non_finite_replies += other.non_finite_replies;
  moments.merge(other.moments);
  for (std::size_t i = 0; i < kPrints; ++i) prints.at(i) += other.prints.at(i);
}

std::uint64_t OutputEvidence::commonest() const { return std::ranges::max(prints); }

double effect_size(const Moments& champion, const Moments& challenger) {
  if (champion.count == 0 || challenger.count == 0) return 0;
  const double distance = std::abs(challenger.mean - champion.mean);
  const double size = std::max(std::abs(challenger.mean), std::abs(champion.mean));
  if (distance <= kSameMean * size) return 0;
  const double freedom = std::max(static_cast<double>(champion.count + challenger.count) - 2, 1.0);
  const double pooled = std::sqrt((champion.squares + challenger.squares) / freedom);
  return pooled > distance / kLargestEffect ? distance / pooled : kLargestEffect;
}

}  // namespace mayfly::rollout
