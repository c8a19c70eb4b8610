// Two answers to one request, compared: what a shadow said beside what the caller got. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "sandbox/channel.h"

namespace mayfly {

// An answer that outlives the instance's memory.
struct KeptAnswer {
  struct Output {
    std::uint32_t index = 0;
    DataType type = DataType::Fp32;
    Shape shape;
    std::vector<std::byte> bytes;
  };
  std::vector<Output> outputs;
};

KeptAnswer keep_answer(std::span<const OutputView> outputs);

// Numbers agree within kAbsolute + kRelative × their size (the tolerance that compiled forms of one
// model differ by); everything else only when it is equal. NaN agrees with NaN.
inline constexpr double kAbsolute = 1e-5;
inline constexpr double kRelative = 1e-3;

struct Difference {
  bool agrees = true;
  double max_difference = 0;        // between two numbers; shapes that differ count as infinite
  std::uint64_t labels = 0;         // integers, booleans, texts, and rows of two or more scores by
  std::uint64_t labels_agreed = 0;  // their largest
};

Difference compare(const KeptAnswer& answer, std::span<const OutputView> shadow);

// Of one shadow beside one version.
struct Comparison {
  std::uint64_t compared = 0;
  std::uint64_t agreed = 0;
  std::uint64_t labels = 0;
  std::uint64_t labels_agreed = 0;
  double max_difference = 0;
  std::uint64_t failed = 0;   // the shadow gave an error
  std::uint64_t dropped = 0;  // the node had better to do

  void add(const Difference& difference);
};

}  // namespace mayfly
