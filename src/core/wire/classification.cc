#include "core/wire/classification.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "core/wire/small_float.h"

namespace mayfly {
namespace {

template <typename Stored>
auto number_of(Stored stored, DataType type) {
  if constexpr (std::is_same_v<Stored, std::uint16_t>) {
    if (type == DataType::Fp16) return static_cast<double>(fp16_to_float(stored));
    if (type == DataType::Bf16) return static_cast<double>(bf16_to_float(stored));
    return static_cast<double>(stored);
  } else {
    return stored;
  }
}

template <typename Number>
bool is_higher(Number a, Number b) {
  if constexpr (std::is_floating_point_v<Number>) {
    if (std::isnan(a) || std::isnan(b)) return !std::isnan(a) && std::isnan(b);
  }
  return a > b;
}

void append_element(std::vector<std::byte>& bytes, std::string_view text) {
  const auto length = static_cast<std::uint32_t>(text.size());
  const auto prefix = std::as_bytes(std::span(&length, 1));
  bytes.insert(bytes.end(), prefix.begin(), prefix.end());
  const auto characters = std::as_bytes(std::span(text));
  bytes.insert(bytes.end(), characters.begin(), characters.end());
}

template <typename Stored>
void classify_row(DataType type, std::span<const std::byte> row, std::size_t classes,
                  std::vector<std::byte>& into) {
  // A copy: sorting what somebody changes meanwhile would go astray.
  std::vector<Stored> stored(row.size() / sizeof(Stored));
  std::memcpy(stored.data(), row.data(), row.size());
  std::vector<std::uint32_t> order(stored.size());
  std::iota(order.begin(), order.end(), 0U);
  const auto middle = order.begin() + static_cast<std::ptrdiff_t>(classes);
  std::partial_sort(order.begin(), middle, order.end(), [&](std::uint32_t a, std::uint32_t b) {
    const auto first = number_of(stored[a], type);
    const auto second = number_of(stored[b], type);
    if (is_higher(first, second)) return true;
    return !is_higher(second, first) && a < b;
  });
  for (const std::uint32_t place : std::span(order).first(classes)) {
    append_element(into, fmt::format("{}:{}", number_of(stored[place], type), place));
  }
}

using ClassifyRow = void (*)(DataType, std::span<const std::byte>, std::size_t,
                             std::vector<std::byte>&);

ClassifyRow row_function(DataType type) {
  switch (type) {
    case DataType::Bool:
    case DataType::Uint8:
      return classify_row<std::uint8_t>;
    case DataType::Uint16:
    case DataType::Fp16:
    case DataType::Bf16:
      return classify_row<std::uint16_t>;
    case DataType::Uint32:
      return classify_row<std::uint32_t>;
    case DataType::Uint64:
      return classify_row<std::uint64_t>;
    case DataType::Int8:
      return classify_row<std::int8_t>;
    case DataType::Int16:
      return classify_row<std::int16_t>;
    case DataType::Int32:
      return classify_row<std::int32_t>;
    case DataType::Int64:
      return classify_row<std::int64_t>;
    case DataType::Fp32:
      return classify_row<float>;
    case DataType::Fp64:
      return classify_row<double>;
    case DataType::Bytes:
      break;
  }
  return nullptr;
}

}  // namespace

Classified classify(DataType type, std::span<const std::int64_t> shape,
                    std::span<const std::byte> bytes, std::uint64_t classes) {
  const ClassifyRow judge = row_function(type);
  CHECK(judge != nullptr);
  Classified result{.shape = Shape(shape.begin(), shape.end()), .bytes = {}};
  if (result.shape.empty()) result.shape.push_back(1);
  const std::size_t width = static_cast<std::size_t>(result.shape.back()) * element_size(type);
  const std::size_t wanted =
      std::min<std::uint64_t>(classes, static_cast<std::uint64_t>(result.shape.back()));
  result.shape.back() = static_cast<std::int64_t>(wanted);
  while (width > 0 && bytes.size() >= width) {
    judge(type, bytes.first(width), wanted, result.bytes);
    bytes = bytes.subspan(width);
  }
  return result;
}

}  // namespace mayfly
