// One value of a row, as a file gives it, and where it goes: a row of a tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/tensor.h"

namespace mayfly {

struct NoValue {};
// Text: what CSV has, read as what is wanted. String: a string, and nothing else.
struct FieldText {
  std::string_view text;
};
struct StringText {
  std::string_view text;
};
using CellValue =
    std::variant<NoValue, bool, std::int64_t, std::uint64_t, double, FieldText, StringText>;

// The rows of one input, row-major. Every row has `width` elements.
struct TensorColumn {
  DataType type = DataType::Fp32;
  std::uint64_t width = 1;
  std::vector<std::byte> bytes;
  std::vector<std::uint64_t> ends;  // of BYTES only: where each row ends in `bytes`

  std::span<const std::byte> rows(std::uint64_t first, std::uint64_t count) const;
};

// Fills a tensor in any order of its elements, then drops the rows that did not decode.
class TensorFiller {
 public:
  TensorFiller(DataType type, std::uint64_t width, std::size_t rows);

  // Empty: it is there now. Otherwise why it cannot be: "'abc' is no FP32".
  std::string put(std::size_t row, std::size_t element, const CellValue& value);
  // Only the rows of `good`, which ascend.
  TensorColumn take(std::span<const std::uint32_t> good);

 private:
  DataType type_;
  std::uint64_t width_;
  std::vector<std::byte> fixed_;
  std::vector<std::string> texts_;  // of BYTES
};

}  // namespace mayfly
