// How many different values a stream had, in 4 KiB: HyperLogLog (Flajolet, Fusy, Gandouet, Meunier:
// AofA 2007) with 2^12 registers and the estimator of Ertl ("New cardinality estimation algorithms
// for HyperLogLog sketches", 2017, arXiv:1702.01284), which needs no tables of corrections. The
// standard error is 1.6 %.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sketch/byte_reader.h"

namespace mayfly {

class DistinctSketch {
 public:
  void add(std::string_view value);
  void merge(const DistinctSketch& other);
  std::uint64_t estimate() const;

  void append_to(std::string& out) const;
  static Result<DistinctSketch> parse(ByteReader& reader);

 private:
  static constexpr unsigned kBits = 12;
  static constexpr std::size_t kRegisters = std::size_t{1} << kBits;
  static constexpr unsigned kMostZeros = 64 - kBits;  // and one: what a register holds at most
  std::vector<std::uint8_t> registers_ = std::vector<std::uint8_t>(kRegisters);
};

}  // namespace mayfly
