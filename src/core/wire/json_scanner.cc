#include "core/wire/json_scanner.h"

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace mayfly {
namespace {

// Powers of ten that a float (up to 10^10) and a double (up to 10^22) hold exactly.
constexpr std::array<double, 23> kPowers = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                            1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                            1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

// One multiplication or division of two exact values rounds correctly (Clinger, "How to read
// floating point numbers accurately", 1990): most numbers that people send need no more.
template <typename Real>
std::optional<Real> nearest_fast(const JsonDecimal& number) {
  constexpr bool kSingle = sizeof(Real) == 4;
  constexpr std::uint64_t kMaxDigits = std::uint64_t{1} << (kSingle ? 24 : 53);
  constexpr int kMaxPower = kSingle ? 10 : 22;
  if (!number.exact || number.digits > kMaxDigits || number.exponent < -kMaxPower ||
      number.exponent > kMaxPower) {
    return std::nullopt;
  }
  const Real digits = static_cast<Real>(number.digits);
  const Real value =
      number.exponent < 0
          ? digits / static_cast<Real>(kPowers[static_cast<std::size_t>(-number.exponent)])
          : digits * static_cast<Real>(kPowers[static_cast<std::size_t>(number.exponent)]);
  return number.negative ? -value : value;
}

// Most floats travel with more digits than 24 bits hold. A double of them is correctly rounded, and
// so is its float unless the double stands within one unit of halfway between two floats.
std::optional<float> nearest_through_double(const JsonDecimal& number) {
  const std::optional<double> value = nearest_fast<double>(number);
  if (!value) return std::nullopt;
  const double size = std::abs(*value);
  using Float = std::numeric_limits<float>;
  if (size < Float::min() || size > Float::max()) return std::nullopt;
  constexpr std::uint64_t kCutBits = (std::uint64_t{1} << 29) - 1;  // 52 - 23 bits are cut off
  constexpr std::uint64_t kHalf = std::uint64_t{1} << 28;
  const std::uint64_t cut = std::bit_cast<std::uint64_t>(*value) & kCutBits;
  if (cut >= kHalf - 1 && cut <= kHalf + 1) return std::nullopt;
  return static_cast<float>(*value);
}

// Out of range covers too small as well as too large; strtod tells them apart.
template <typename Real>
std::optional<Real> nearest_extreme(std::string_view text) {
  const std::string copy(text);
  const Real value = sizeof(Real) == 4 ? static_cast<Real>(std::strtof(copy.c_str(), nullptr))
                                       : static_cast<Real>(std::strtod(copy.c_str(), nullptr));
  if (!std::isfinite(value)) return std::nullopt;
  return value;
}

bool is_delimiter(char c) {
  return c == ',' || c == ']' || c == '[' || c == '}' || c == ' ' || c == '\n' || c == '\r' ||
         c == '\t';
}

}  // namespace

bool JsonScanner::take_digits(JsonDecimal& number, int exponent_step) {
  if (!digit()) return false;
  for (; digit(); ++at_) {
    const auto value = static_cast<std::uint64_t>(*at_ - '0');
    std::uint64_t next = 0;
    if (__builtin_mul_overflow(number.digits, std::uint64_t{10}, &next) ||
        __builtin_add_overflow(next, value, &next)) {
      number.exact = false;
      continue;
    }
    number.digits = next;
    number.exponent += exponent_step;
  }
  return true;
}

bool JsonScanner::take_exponent(JsonDecimal& number) {
  constexpr int kEnough = 100'000;  // beyond any type's range whatever the digits; never overflows
  const bool negative = at_ != end_ && *at_ == '-';
  if (at_ != end_ && (*at_ == '-' || *at_ == '+')) ++at_;
  if (!digit()) return false;
  int exponent = 0;
  for (; digit(); ++at_) exponent = exponent < kEnough ? exponent * 10 + (*at_ - '0') : kEnough;
  number.exponent += negative ? -exponent : exponent;
  return true;
}

std::optional<JsonDecimal> JsonScanner::take_decimal() {
  peek();
  const char* begin = at_;
  const auto malformed = [&]() -> std::optional<JsonDecimal> {
    at_ = begin;
    return std::nullopt;
  };
  JsonDecimal number;
  if (at_ != end_ && *at_ == '-') {
    number.negative = true;
    ++at_;
  }
  const bool zero = at_ != end_ && *at_ == '0';
  if (!take_digits(number, 0)) return malformed();
  if (zero && at_ - begin > (number.negative ? 2 : 1)) return malformed();  // 01, 00
  if (at_ != end_ && *at_ == '.') {
    ++at_;
    number.integer = false;
    if (!take_digits(number, -1)) return malformed();
  }
  if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
    ++at_;
    number.integer = false;
    if (!take_exponent(number)) return malformed();
  }
  if (at_ != end_ && !is_delimiter(*at_)) return malformed();
  number.text = std::string_view(begin, at_);
  return number;
}

std::string_view JsonScanner::take_token() {
  peek();
  const char* begin = at_;
  if (at_ != end_ && *at_ == '"') {
    for (++at_; at_ != end_ && *at_ != '"'; ++at_) {
      if (*at_ == '\\' && at_ + 1 != end_) ++at_;
    }
    if (at_ != end_) ++at_;
  } else {
    while (at_ != end_ && !is_delimiter(*at_)) ++at_;
  }
  return {begin, at_};
}

std::optional<std::uint32_t> JsonScanner::take_hex4() {
  if (end_ - at_ < 4) return std::nullopt;
  std::uint32_t value = 0;
  const auto [stop, error] = std::from_chars(at_, at_ + 4, value, 16);
  if (error != std::errc() || stop != at_ + 4) return std::nullopt;
  at_ += 4;
  return value;
}

// What follows \u: four digits, or a surrogate pair \uD83D\uDE00. A lone surrogate is no character.
std::optional<std::uint32_t> JsonScanner::take_code_point() {
  const std::optional<std::uint32_t> first = take_hex4();
  if (!first || *first < 0xD800 || *first > 0xDFFF) return first;
  if (*first > 0xDBFF || end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u') return std::nullopt;
  at_ += 2;
  const std::optional<std::uint32_t> second = take_hex4();
  if (!second || *second < 0xDC00 || *second > 0xDFFF) return std::nullopt;
  return 0x10000 + ((*first - 0xD800) << 10) + (*second - 0xDC00);
}

template <typename Real>
std::optional<Real> nearest(const JsonDecimal& number) {
  if (const std::optional<Real> value = nearest_fast<Real>(number)) return value;
  if constexpr (sizeof(Real) == sizeof(float)) {
    if (const std::optional<float> value = nearest_through_double(number)) return value;
  }
  Real value = 0;
  const char* begin = number.text.data();
  const auto [stop, error] = std::from_chars(begin, begin + number.text.size(), value);
  if (error == std::errc() && std::isfinite(value)) return value;
  return nearest_extreme<Real>(number.text);
}

template std::optional<float> nearest<float>(const JsonDecimal&);
template std::optional<double> nearest<double>(const JsonDecimal&);

std::string_view encode_utf8(std::uint32_t code_point, char (&buffer)[4]) {
  const auto tail = [&](int shift) {
    return static_cast<char>(0x80 | ((code_point >> shift) & 0x3F));
  };
  if (code_point < 0x80) {
    buffer[0] = static_cast<char>(code_point);
    return {buffer, 1};
  }
  if (code_point < 0x800) {
    buffer[0] = static_cast<char>(0xC0 | (code_point >> 6));
    buffer[1] = tail(0);
    return {buffer, 2};
  }
  if (code_point < 0x10000) {
    buffer[0] = static_cast<char>(0xE0 | (code_point >> 12));
    buffer[1] = tail(6);
    buffer[2] = tail(0);
    return {buffer, 3};
  }
  buffer[0] = static_cast<char>(0xF0 | (code_point >> 18));
  buffer[1] = tail(12);
  buffer[2] = tail(6);
  buffer[3] = tail(0);
  return {buffer, 4};
}

}  // namespace mayfly
