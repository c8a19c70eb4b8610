// Quantiles of a stream of numbers in memory that does not grow with it: the KLL sketch (Karnin,
// Lang, Liberty: "Optimal Quantile Approximation in Streams", FOCS 2016, arXiv:1603.05346).
//
// Compactors of growing weight: what one holds stands for 2^level values. A full one is sorted, and
// every second value goes up; which half is decided by a bit of a generator that begins the same in
// every sketch. With k = 200 a rank is off by about 1.3 % at most, with 99 % confidence; the least
// and the greatest value are exact.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sketch/byte_reader.h"

namespace mayfly {

class QuantileSketch {
 public:
  void add(double value);  // finite
  void merge(const QuantileSketch& other);

  std::uint64_t count() const { return count_; }
  double min() const { return min_; }  // of an empty one: infinity
  double max() const { return max_; }
  // The value that `share` of the stream is not above; 0 ≤ share ≤ 1. NaN: empty.
  double quantile(double share) const;
  std::vector<double> quantiles(const std::vector<double>& shares) const;  // ascending shares
  // Which share of the stream is not above each value; the values ascend.
  std::vector<double> ranks(const std::vector<double>& values) const;

  void append_to(std::string& out) const;
  static Result<QuantileSketch> parse(ByteReader& reader);

 private:
  struct Weighted {
    double value;
    std::uint64_t weight;
  };
  std::vector<Weighted> sorted() const;
  std::size_t capacity(std::size_t level) const;
  void compress();
  bool coin();

  std::vector<std::vector<double>> levels_ = {{}};
  std::size_t held_ = 0;
  std::uint64_t count_ = 0;
  double min_ = kInfinity;
  double max_ = -kInfinity;
  std::uint64_t bits_ = 0x9e3779b97f4a7c15U;

  static constexpr double kInfinity = __builtin_huge_val();
};

}  // namespace mayfly
