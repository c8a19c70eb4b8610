#include "core/wire/number.h"

#include <cstdint>
#include <cstring>

#include "core/wire/small_float.h"

namespace mayfly {
namespace {

template <typename T>
T element_at(std::span<const std::byte> bytes, std::size_t i) {
  T value;
  std::memcpy(&value, bytes.data() + i * sizeof value, sizeof value);
  return value;
}

}  // namespace

double number_at(DataType type, std::span<const std::byte> bytes, std::size_t i) {
  switch (type) {
    case DataType::Bool:
    case DataType::Uint8:
      return element_at<std::uint8_t>(bytes, i);
    case DataType::Uint16:
      return element_at<std::uint16_t>(bytes, i);
    case DataType::Uint32:
      return element_at<std::uint32_t>(bytes, i);
    case DataType::Uint64:
      return static_cast<double>(element_at<std::uint64_t>(bytes, i));
    case DataType::Int8:
      return element_at<std::int8_t>(bytes, i);
    case DataType::Int16:
      return element_at<std::int16_t>(bytes, i);
    case DataType::Int32:
      return element_at<std::int32_t>(bytes, i);
    case DataType::Int64:
      return static_cast<double>(element_at<std::int64_t>(bytes, i));
    case DataType::Fp16:
      return fp16_to_float(element_at<std::uint16_t>(bytes, i));
    case DataType::Bf16:
      return bf16_to_float(element_at<std::uint16_t>(bytes, i));
    case DataType::Fp32:
      return element_at<float>(bytes, i);
    case DataType::Fp64:
      return element_at<double>(bytes, i);
    case DataType::Bytes:
      break;
  }
  return 0;
}

}  // namespace mayfly
