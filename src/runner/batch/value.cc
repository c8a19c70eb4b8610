#include "runner/batch/value.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <concepts>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "core/iso_date.h"
#include "core/wire/json_text.h"
#include "core/wire/small_float.h"

namespace mayfly {
namespace {

constexpr std::size_t kShownText = 64;

template <typename... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  const auto first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

template <typename T>
std::optional<T> parse_number(std::string_view text) {
  text = trimmed(text);
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size()) return std::nullopt;
  if constexpr (std::same_as<T, float>) {
    // Too small for a float is zero; too large is no value.
    if (error == std::errc::result_out_of_range) {
      const auto wide = parse_number<double>(text);
      if (wide && std::abs(*wide) < 1) return static_cast<float>(*wide);
    }
  }
  if (error != std::errc()) return std::nullopt;
  return value;
}

std::optional<bool> parse_bool(std::string_view text) {
  text = trimmed(text);
  if (text == "true" || text == "True" || text == "TRUE" || text == "1") return true;
  if (text == "false" || text == "False" || text == "FALSE" || text == "0") return false;
  return std::nullopt;
}

// The same number as another type, where it has it.
template <std::integral To, typename From>
std::optional<To> same_number(From from) {
  if constexpr (std::integral<From>) {
    if (std::in_range<To>(from)) return static_cast<To>(from);
  } else {
    // Both bounds are powers of two, or just below one: exact as doubles when the upper one is
    // open.
    const double low = static_cast<double>(std::numeric_limits<To>::min());
    const double high = std::ldexp(1.0, std::numeric_limits<To>::digits);
    if (from >= low && from < high && std::trunc(from) == from) return static_cast<To>(from);
  }
  return std::nullopt;
}

template <typename T>
std::optional<T> number_of(const CellValue& value) {
  return std::visit(
      Overloaded{[](NoValue) { return std::optional<T>(); },
                 [](bool) { return std::optional<T>(); },
                 [](FieldText field) { return parse_number<T>(field.text); },
                 [](StringText) { return std::optional<T>(); },
                 [](auto number) -> std::optional<T> {
                   if constexpr (std::floating_point<T>) {
                     const T narrow = static_cast<T>(number);
                     if (std::isinf(narrow) && !std::isinf(static_cast<double>(number)))
                       return std::nullopt;
                     return narrow;
                   } else {
                     return same_number<T>(number);
                   }
                 }},
      value);
}

std::optional<std::string_view> text_of(const CellValue& value) {
  if (const auto* field = std::get_if<FieldText>(&value)) return field->text;
  if (const auto* text = std::get_if<StringText>(&value)) return text->text;
  return std::nullopt;
}

// A date stands for milliseconds since 1970, UTC: as models learn them.
std::optional<std::int64_t> integer_or_date(const CellValue& value) {
  if (const auto number = number_of<std::int64_t>(value)) return number;
  const auto text = text_of(value);
  return text ? parse_iso_date(*text) : std::nullopt;
}

template <typename T>
bool store(std::byte* to, const std::optional<T>& value) {
  if (!value) return false;
  std::memcpy(to, &*value, sizeof(T));
  return true;
}

bool store_bool(std::byte* to, const CellValue& value) {
  std::optional<bool> truth;
  if (const auto* plain = std::get_if<bool>(&value)) truth = *plain;
  if (const auto* field = std::get_if<FieldText>(&value)) truth = parse_bool(field->text);
  if (!truth) return false;
  *to = std::byte{*truth};
  return true;
}

bool store_fixed(DataType type, std::byte* to, const CellValue& value) {
  switch (type) {
    case DataType::Bool:
      return store_bool(to, value);
    case DataType::Uint8:
      return store(to, number_of<std::uint8_t>(value));
    case DataType::Uint16:
      return store(to, number_of<std::uint16_t>(value));
    case DataType::Uint32:
      return store(to, number_of<std::uint32_t>(value));
    case DataType::Uint64:
      return store(to, number_of<std::uint64_t>(value));
    case DataType::Int8:
      return store(to, number_of<std::int8_t>(value));
    case DataType::Int16:
      return store(to, number_of<std::int16_t>(value));
    case DataType::Int32:
      return store(to, number_of<std::int32_t>(value));
    case DataType::Int64:
      return store(to, integer_or_date(value));
    case DataType::Fp32:
      return store(to, number_of<float>(value));
    case DataType::Fp64:
      return store(to, number_of<double>(value));
    case DataType::Fp16: {
      const auto number = number_of<double>(value);
      if (!number) return false;
      const std::uint16_t bits = fp16_from_double(*number);
      if (std::isinf(fp16_to_float(bits)) && !std::isinf(*number)) return false;
      return store(to, std::optional(bits));
    }
    case DataType::Bf16: {
      const auto number = number_of<float>(value);
      return number && store(to, std::optional(bf16_from_float(*number)));
    }
    case DataType::Bytes:
      return false;
  }
  return false;
}

std::string shown(const CellValue& value) {
  const auto quoted = [](std::string_view text) {
    return text.size() <= kShownText ? fmt::format("'{}'", text)
                                     : fmt::format("'{}…'", text.substr(0, kShownText));
  };
  return std::visit(Overloaded{[](NoValue) { return std::string("null"); },
                               [&](FieldText field) { return quoted(field.text); },
                               [&](StringText text) { return quoted(text.text); },
                               [](auto plain) { return fmt::format("{}", plain); }},
                    value);
}

std::string complaint(DataType type, const CellValue& value) {
  const auto* field = std::get_if<FieldText>(&value);
  if (std::holds_alternative<NoValue>(value) || (field != nullptr && field->text.empty()))
    return fmt::format("no value, where {} is needed", to_string(type));
  return fmt::format("{} is no {}", shown(value), to_string(type));
}

}  // namespace

std::span<const std::byte> TensorColumn::rows(std::uint64_t first, std::uint64_t count) const {
  const std::span<const std::byte> all(bytes);
  if (type == DataType::Bytes) {
    const std::uint64_t begin = first == 0 ? 0 : ends[first - 1];
    const std::uint64_t end = first + count == 0 ? 0 : ends[first + count - 1];
    return all.subspan(begin, end - begin);
  }
  const std::uint64_t row = width * element_size(type);
  return all.subspan(first * row, count * row);
}

TensorFiller::TensorFiller(DataType type, std::uint64_t width, std::size_t rows)
    : type_(type), width_(width) {
  if (type == DataType::Bytes) {
    texts_.resize(rows * width);
  } else {
    fixed_.resize(rows * width * element_size(type));
  }
}

std::string TensorFiller::put(std::size_t row, std::size_t element, const CellValue& value) {
  const std::size_t index = row * width_ + element;
  if (type_ != DataType::Bytes) {
    std::byte* to = fixed_.data() + index * element_size(type_);
    return store_fixed(type_, to, value) ? std::string() : complaint(type_, value);
  }
  const auto text = text_of(value);
  if (!text) return complaint(type_, value);
  texts_[index] = *text;
  return {};
}

TensorColumn TensorFiller::take(std::span<const std::uint32_t> good) {
  TensorColumn column{.type = type_, .width = width_, .bytes = {}, .ends = {}};
  if (type_ == DataType::Bytes) {
    for (const std::uint32_t row : good) {
      for (std::size_t element = 0; element < width_; ++element) {
        const std::string& text = texts_[row * width_ + element];
        const auto size = static_cast<std::uint32_t>(text.size());
        const auto head = std::as_bytes(std::span(&size, 1));
        const auto body = std::as_bytes(std::span(text));
        column.bytes.insert(column.bytes.end(), head.begin(), head.end());
        column.bytes.insert(column.bytes.end(), body.begin(), body.end());
      }
      column.ends.push_back(column.bytes.size());
    }
    return column;
  }
  const std::size_t row_bytes = width_ * element_size(type_);
  for (std::size_t i = 0; i < good.size() && row_bytes > 0; ++i) {
    if (good[i] != i)
      std::memmove(fixed_.data() + i * row_bytes, fixed_.data() + good[i] * row_bytes, row_bytes);
  }
  fixed_.resize(good.size() * row_bytes);
  column.bytes = std::move(fixed_);
  return column;
}

}  // namespace mayfly
