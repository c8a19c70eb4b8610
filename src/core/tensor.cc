#include "core/tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

struct TypeEntry {
  DataType type;
  std::string_view name;
  std::size_t size;
};

constexpr auto kTypes = std::to_array<TypeEntry>({
    {DataType::Bool, "BOOL", 1},
    {DataType::Uint8, "UINT8", 1},
    {DataType::Uint16, "UINT16", 2},
    {DataType::Uint32, "UINT32", 4},
    {DataType::Uint64, "UINT64", 8},
    {DataType::Int8, "INT8", 1},
    {DataType::Int16, "INT16", 2},
    {DataType::Int32, "INT32", 4},
    {DataType::Int64, "INT64", 8},
    {DataType::Fp16, "FP16", 2},
    {DataType::Fp32, "FP32", 4},
    {DataType::Fp64, "FP64", 8},
    {DataType::Bytes, "BYTES", 0},
    {DataType::Bf16, "BF16", 2},
});

// kTypes is in the order of the enumerators, which count from 1.
const TypeEntry& entry(DataType type) { return kTypes.at(static_cast<std::size_t>(type) - 1); }

std::optional<std::size_t> index_of(std::span<const TensorSpec> specs, std::string_view name) {
  const auto found = std::ranges::find(specs, name, &TensorSpec::name);
  if (found == specs.end()) return std::nullopt;
  return static_cast<std::size_t>(found - specs.begin());
}

}  // namespace

std::string_view to_string(DataType type) { return entry(type).name; }

std::optional<DataType> parse_data_type(std::string_view name) {
  const auto* found = std::ranges::find(kTypes, name, &TypeEntry::name);
  if (found == kTypes.end()) return std::nullopt;
  return found->type;
}

std::size_t element_size(DataType type) { return entry(type).size; }

bool is_known(std::uint8_t raw) { return raw >= 1 && raw <= kTypes.size(); }

std::string to_string(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

Result<std::uint64_t> element_count(std::span<const std::int64_t> shape) {
  std::uint64_t count = 1;
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) {
      return refuse(reason::kInvalidInput,
                    fmt::format("shape {} has a negative dimension", to_string(shape)));
    }
    if (__builtin_mul_overflow(count, static_cast<std::uint64_t>(dimension), &count)) {
      return refuse(reason::kInvalidInput,
                    fmt::format("shape {} has too many elements", to_string(shape)));
    }
  }
  return count;
}

Result<std::uint64_t> byte_count(DataType type, std::span<const std::int64_t> shape) {
  std::uint64_t count = TRY(element_count(shape));
  if (__builtin_mul_overflow(count, element_size(type), &count)) {
    return refuse(reason::kInvalidInput,
                  fmt::format("shape {} has too many bytes", to_string(shape)));
  }
  return count;
}

bool fits(std::span<const std::int64_t> shape, const TensorSpec& spec) {
  return std::ranges::equal(shape, spec.shape, [](std::int64_t have, std::int64_t want) {
    return want == -1 || have == want;
  });
}

std::optional<std::size_t> Signature::input_index(std::string_view name) const {
  return index_of(inputs, name);
}

std::optional<std::size_t> Signature::output_index(std::string_view name) const {
  return index_of(outputs, name);
}

}  // namespace mayfly
