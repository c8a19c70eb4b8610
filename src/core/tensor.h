// Tensors as values: datatypes of the Open Inference Protocol v2, shapes, signatures. No data here:
// bytes live in an invocation's shared memory (sandbox/channel.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly {

// Numbers are part of the shared-memory layout and of manifests: append only.
enum class DataType : std::uint8_t {
  Bool = 1,
  Uint8 = 2,
  Uint16 = 3,
  Uint32 = 4,
  Uint64 = 5,
  Int8 = 6,
  Int16 = 7,
  Int32 = 8,
  Int64 = 9,
  Fp16 = 10,
  Fp32 = 11,
  Fp64 = 12,
  Bytes = 13,  // each element a uint32 little-endian length and that many bytes
  Bf16 = 14,
};

std::string_view to_string(DataType type);  // "FP32"
std::optional<DataType> parse_data_type(std::string_view name);
// Bytes of one element; 0 for Bytes, whose elements vary.
std::size_t element_size(DataType type);
bool is_known(std::uint8_t raw);  // for values that come from shared memory

using Shape = std::vector<std::int64_t>;  // row-major; in a signature -1 is a free dimension

inline constexpr std::size_t kMaxRank = 16;
inline constexpr std::size_t kMaxTensors = 1024;  // inputs of a request, outputs of a reply

std::string to_string(std::span<const std::int64_t> shape);  // "[-1,30]"

// The product of the dimensions. An error when a dimension is negative or the product does not fit.
Result<std::uint64_t> element_count(std::span<const std::int64_t> shape);
// element_count × element_size, overflow-checked; only for fixed-size types.
Result<std::uint64_t> byte_count(DataType type, std::span<const std::int64_t> shape);

// What the bytes of an input are. Numbers are part of the shared-memory layout: append only.
enum class InputForm : std::uint8_t {
  Tensor = 0,
  EncodedImage = 1,  // a PNG or JPEG file, decoded inside the jail; carried as UINT8 of rank 1
  Document = 2,      // the body of a request as it came, carried as UINT8 of rank 1
};

struct TensorSpec {
  std::string name;
  DataType type = DataType::Fp32;
  Shape shape;
  bool operator==(const TensorSpec&) const = default;
};

// Whether a concrete shape fits a specification: same rank, equal where the specification is not
// -1.
bool fits(std::span<const std::int64_t> shape, const TensorSpec& spec);

struct Signature {
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  bool operator==(const Signature&) const = default;
  // Index by name; signatures are short, a linear search beats a map.
  std::optional<std::size_t> input_index(std::string_view name) const;
  std::optional<std::size_t> output_index(std::string_view name) const;
};

}  // namespace mayfly
