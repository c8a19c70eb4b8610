#include "core/wire/tensor_from_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "core/iso_date.h"
#include "core/reason.h"
#include "core/wire/json_scanner.h"
#include "core/wire/small_float.h"

namespace mayfly {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are little-endian");

std::unexpected<Error> invalid(std::string message) {
  return refuse(reason::kInvalidInput, std::move(message));
}

template <typename Integer>
std::string integer_range() {
  return fmt::format("an integer from {} to {}", std::numeric_limits<Integer>::min(),
                     std::numeric_limits<Integer>::max());
}

// What an element is and how it may be written.
struct Element {
  DataType type;
  JsonBytes bytes = JsonBytes::Text;
};

std::string expectation(Element element) {
  switch (element.type) {
    case DataType::Bool:
      return "true or false";
    case DataType::Uint8:
      return integer_range<std::uint8_t>();
    case DataType::Uint16:
      return integer_range<std::uint16_t>();
    case DataType::Uint32:
      return integer_range<std::uint32_t>();
    case DataType::Uint64:
      return integer_range<std::uint64_t>();
    case DataType::Int8:
      return integer_range<std::int8_t>();
    case DataType::Int16:
      return integer_range<std::int16_t>();
    case DataType::Int32:
      return integer_range<std::int32_t>();
    case DataType::Int64:
      return integer_range<std::int64_t>() + ", or a date as ISO 8601 has it";
    case DataType::Bytes:
      return element.bytes == JsonBytes::Text ? "a string"
                                              : R"(a string or {"b64": base64 of the bytes})";
    default:
      return "a number within the datatype's range";
  }
}

// ---- One element --------------------------------------------------------------------------------

template <typename Integer>
std::optional<Integer> take_integer(JsonScanner& in) {
  const std::optional<JsonDecimal> number = in.take_decimal();
  if (!number || !number->integer || !number->exact) return std::nullopt;
  using Limits = std::numeric_limits<Integer>;
  if (!number->negative) {
    if (number->digits > static_cast<std::uint64_t>(Limits::max())) return std::nullopt;
    return static_cast<Integer>(number->digits);
  }
  // Two's complement reaches one further below zero; an unsigned type has only -0.
  const std::uint64_t lowest =
      std::is_signed_v<Integer> ? static_cast<std::uint64_t>(Limits::max()) + 1 : 0;
  if (number->digits > lowest) return std::nullopt;
  return static_cast<Integer>(std::uint64_t{0} - number->digits);
}

// Or a date, which stands for milliseconds since 1970, UTC: as models learn them.
std::optional<std::int64_t> take_int64(JsonScanner& in) {
  if (in.peek() != '"') return take_integer<std::int64_t>(in);
  constexpr std::size_t kLongestDate = 64;
  std::string text;
  const bool taken = in.take_string([&](std::string_view piece) {
    text += piece.substr(0, kLongestDate + 1 - std::min(text.size(), kLongestDate + 1));
  });
  if (!taken || text.size() > kLongestDate) return std::nullopt;
  return parse_iso_date(text);
}

template <typename Real>
std::optional<Real> take_real(JsonScanner& in) {
  using Limits = std::numeric_limits<Real>;
  if (const std::optional<JsonDecimal> number = in.take_decimal()) return nearest<Real>(*number);
  if (in.take_word("NaN")) return Limits::quiet_NaN();
  if (in.take_word("Infinity")) return Limits::infinity();
  if (in.take_word("-Infinity")) return -Limits::infinity();
  return std::nullopt;
}

std::optional<std::uint16_t> take_fp16(JsonScanner& in) {
  const std::optional<double> value = take_real<double>(in);
  if (!value) return std::nullopt;
  const std::uint16_t bits = fp16_from_double(*value);
  if (std::isfinite(*value) && !std::isfinite(fp16_to_float(bits))) return std::nullopt;
  return bits;
}

std::optional<std::uint16_t> take_bf16(JsonScanner& in) {
  const std::optional<float> value = take_real<float>(in);
  if (!value) return std::nullopt;
  const std::uint16_t bits = bf16_from_float(*value);
  if (std::isfinite(*value) && !std::isfinite(bf16_to_float(bits))) return std::nullopt;
  return bits;
}

std::optional<std::uint8_t> take_bool(JsonScanner& in) {
  if (in.take_word("true")) return 1;
  if (in.take_word("false")) return 0;
  const std::optional<std::uint8_t> number = take_integer<std::uint8_t>(in);
  return number && *number <= 1 ? number : std::nullopt;
}

// One element of BYTES, passed to `sink` piece by piece.
template <typename Sink>
bool take_bytes(JsonScanner& in, JsonBytes bytes, Sink&& sink) {
  if (bytes != JsonBytes::Text && in.peek() == '{') return take_json_base64(in, sink);
  return in.take_string(sink);
}

// ---- The arrays around the elements -------------------------------------------------------------

// `Take` reads one element from the scanner and keeps it; false: this is none.
template <typename Take>
class ArrayWalk {
 public:
  ArrayWalk(std::string_view text, Element element, std::span<const std::int64_t> shape, Take& take)
      : in_(text), element_(element), shape_(shape), take_(take) {}

  Status run() {
    const std::uint64_t count = TRY(element_count(shape_));
    TRY(outermost(count));
    if (!in_.at_end()) return invalid("text follows the array");
    return {};
  }

 private:
  Status outermost(std::uint64_t count) {
    if (in_.peek() != '[') return shape_.empty() ? element() : invalid("expected an array");
    JsonScanner ahead = in_;
    ahead.take('[');
    if (ahead.peek() != '[') return row(count);
    if (shape_.empty()) return invalid("the data is nested, shape [] is a scalar");
    return level(0);
  }

  Status level(std::size_t depth) {  // at most kMaxRank deep
    const auto length = static_cast<std::uint64_t>(shape_[depth]);
    if (depth + 1 == shape_.size()) return row(length);
    if (!in_.take('[')) return wrong_nesting();
    for (std::uint64_t i = 0; i < length; ++i) {
      if (i > 0 && !in_.take(',')) return wrong_nesting();
      TRY(level(depth + 1));
    }
    if (!in_.take(']')) return wrong_nesting();
    return {};
  }

  Status row(std::uint64_t length) {
    if (!in_.take('[')) return wrong_nesting();
    for (std::uint64_t i = 0; i < length; ++i) {
      if (i > 0 && !in_.take(',')) return wrong_count(length, i);
      if (in_.peek() == ']') return wrong_count(length, i);
      TRY(element());
    }
    if (!in_.take(']')) return wrong_count(length, length);
    return {};
  }

  Status element() {
    const JsonScanner before = in_;
    if (take_(in_)) [[likely]] {
      ++index_;
      return {};
    }
    in_ = before;
    constexpr std::size_t kEnough = 40;
    const char first = in_.peek();
    std::string token(first == '[' ? "an array" : first == '{' ? "an object" : in_.take_token());
    if (token.size() > kEnough) token = token.substr(0, kEnough) + "…";
    return invalid(fmt::format("element {} is {}, expected {} ({})", index_,
                               token.empty() ? "missing" : token, to_string(element_.type),
                               expectation(element_)));
  }

  Status wrong_nesting() const {
    return invalid(fmt::format("the data is not nested like shape {}", to_string(shape_)));
  }

  Status wrong_count(std::uint64_t length, std::uint64_t found) {
    if (in_.peek() != ']' && in_.peek() != ',') return wrong_nesting();
    return invalid(fmt::format("shape {} needs {} elements {}, the data has {}{}",
                               to_string(shape_), length, shape_.size() > 1 ? "here" : "in all",
                               found < length ? "" : "more than ", found));
  }

  JsonScanner in_;
  Element element_;
  std::span<const std::int64_t> shape_;
  Take& take_;
  std::uint64_t index_ = 0;
};

template <typename Take>
Status walk(std::string_view text, Element element, std::span<const std::int64_t> shape,
            Take take) {
  return ArrayWalk<Take>(text, element, shape, take).run();
}

template <auto take_element>
Status read_fixed(std::string_view text, DataType type, std::span<const std::int64_t> shape,
                  std::span<std::byte> destination) {
  const auto take = [at = destination.data()](JsonScanner& in) mutable {
    const auto value = take_element(in);
    if (!value) return false;
    std::memcpy(at, &*value, sizeof(*value));
    at += sizeof(*value);
    return true;
  };
  const std::uint64_t bytes = TRY(byte_count(type, shape));
  CHECK(destination.size() == bytes);
  return walk(text, {type}, shape, take);
}

Status read_strings(std::string_view text, std::span<const std::int64_t> shape,
                    std::span<std::byte> destination, JsonBytes bytes) {
  const auto take = [rest = destination, bytes](JsonScanner& in) mutable {
    std::span<std::byte> body = rest.subspan(sizeof(std::uint32_t));
    std::uint32_t length = 0;
    const bool taken = take_bytes(in, bytes, [&](std::string_view piece) {
      CHECK(piece.size() <= body.size() - length);  // json_bytes_size measured the same text
      std::ranges::copy(std::as_bytes(std::span(piece)), body.begin() + length);
      length += static_cast<std::uint32_t>(piece.size());
    });
    std::memcpy(rest.data(), &length, sizeof(length));
    rest = body.subspan(length);
    return taken;
  };
  return walk(text, {DataType::Bytes, bytes}, shape, take);
}

// Steps over an element where only the nesting matters; false: there is none.
Result<bool> skip_element(JsonScanner& in, JsonBytes bytes) {
  if (in.peek() != '{') return !in.take_token().empty();
  if (bytes == JsonBytes::Text)
    return invalid("expected an array, a number or a string, found an object");
  const auto ignore = [](std::string_view) {};
  if (take_bytes(in, bytes, ignore)) return true;
  return invalid(R"(expected {"b64": base64 of the bytes}, found another object)");
}

// An array begins `depth` levels deep: a new dimension, unless it comes after that level's first
// end.
Status begin_level(Shape& shape, std::size_t depth, std::size_t closed) {
  if (depth > kMaxRank) return invalid(fmt::format("nested deeper than {} arrays", kMaxRank));
  if (depth > shape.size() && depth < closed) shape.push_back(0);
  return {};
}

// Where the string that begins at `quote` ends: at its closing quote, or with the text.
std::size_t string_end(std::string_view text, std::size_t quote) {
  std::size_t i = quote + 1;
  for (; i < text.size() && text[i] != '"'; ++i) i += text[i] == '\\' ? 1 : 0;
  return i;
}

}  // namespace

Result<Shape> json_nesting(std::string_view text, JsonBytes bytes) {
  JsonScanner in(text);
  Shape shape;
  std::size_t closed = kMaxRank + 1;  // the outermost level whose first array has ended
  std::size_t depth = 0;
  do {
    const char next = in.peek();
    const bool begins = next != ']' && next != ',';
    if (begins && depth > 0 && depth < closed) ++shape[depth - 1];
    if (in.take('[')) {
      TRY(begin_level(shape, ++depth, closed));
    } else if (in.take(']')) {
      if (depth == 0) return invalid("an array ends that did not begin");
      closed = std::min(closed, depth--);
    } else if (!in.take(',') && !TRY(skip_element(in, bytes))) {
      return invalid("malformed array");
    }
  } while (depth > 0);
  return shape;
}

Result<std::uint64_t> json_bytes_size(std::string_view text, std::span<const std::int64_t> shape,
                                      JsonBytes bytes) {
  std::uint64_t total = 0;
  TRY(walk(text, {DataType::Bytes, bytes}, shape, [&total, bytes](JsonScanner& in) {
    std::uint64_t length = 0;
    const auto count = [&length](std::string_view piece) { length += piece.size(); };
    const bool taken = take_bytes(in, bytes, count);
    total += sizeof(std::uint32_t) + length;
    return taken && length <= UINT32_MAX;
  }));
  return total;
}

Status read_json_tensor(std::string_view text, DataType type, std::span<const std::int64_t> shape,
                        std::span<std::byte> destination, JsonBytes bytes) {
  switch (type) {
    case DataType::Bool:
      return read_fixed<take_bool>(text, type, shape, destination);
    case DataType::Uint8:
      return read_fixed<take_integer<std::uint8_t>>(text, type, shape, destination);
    case DataType::Uint16:
      return read_fixed<take_integer<std::uint16_t>>(text, type, shape, destination);
    case DataType::Uint32:
      return read_fixed<take_integer<std::uint32_t>>(text, type, shape, destination);
    case DataType::Uint64:
      return read_fixed<take_integer<std::uint64_t>>(text, type, shape, destination);
    case DataType::Int8:
      return read_fixed<take_integer<std::int8_t>>(text, type, shape, destination);
    case DataType::Int16:
      return read_fixed<take_integer<std::int16_t>>(text, type, shape, destination);
    case DataType::Int32:
      return read_fixed<take_integer<std::int32_t>>(text, type, shape, destination);
    case DataType::Int64:
      return read_fixed<take_int64>(text, type, shape, destination);
    case DataType::Fp16:
      return read_fixed<take_fp16>(text, type, shape, destination);
    case DataType::Bf16:
      return read_fixed<take_bf16>(text, type, shape, destination);
    case DataType::Fp32:
      return read_fixed<take_real<float>>(text, type, shape, destination);
    case DataType::Fp64:
      return read_fixed<take_real<double>>(text, type, shape, destination);
    case DataType::Bytes:
      return read_strings(text, shape, destination, bytes);
  }
  return fail(Code::Internal, "unknown datatype", reason::kInternal);
}

Status check_json_depth(std::string_view text, std::size_t levels) {
  std::size_t depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      i = string_end(text, i);
    } else if (c == '[' || c == '{') {
      if (++depth > levels) {
        return refuse(reason::kTooLarge, fmt::format("JSON nested deeper than {} levels", levels));
      }
    } else if (c == ']' || c == '}') {
      depth -= depth > 0 ? 1 : 0;
    }
  }
  return {};
}

}  // namespace mayfly
