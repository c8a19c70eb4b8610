// A cursor over the JSON text of one tensor: white space, single characters, numbers, strings.
// Every read is bounds-checked; what does not parse leaves the cursor at the offending token.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mayfly {

// A number as it is written: -12.5e3 is negative, digits 125, exponent 2.
struct JsonDecimal {
  std::string_view text;
  std::uint64_t digits = 0;
  int exponent = 0;
  bool negative = false;
  bool integer = true;  // neither a fraction nor an exponent is written
  bool exact = true;    // `digits` holds all of them
};

class JsonScanner {
 public:
  explicit JsonScanner(std::string_view text) : at_(text.data()), end_(at_ + text.size()) {}

  // The next character that is not white space; 0 at the end.
  char peek() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
    return at_ != end_ ? *at_ : '\0';
  }
  bool take(char wanted) {
    if (peek() != wanted || at_ == end_) return false;
    ++at_;
    return true;
  }
  bool take_word(std::string_view word) {
    peek();
    if (!std::string_view(at_, end_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  bool at_end() { return peek() == '\0' && at_ == end_; }

  std::optional<JsonDecimal> take_decimal();
  // Passes the unescaped text to `sink` piece by piece; false when it is not a well-formed string.
  template <typename Sink>
  bool take_string(Sink&& sink);
  // Whatever stands here up to the next delimiter; for messages and for skipping.
  std::string_view take_token();

 private:
  bool digit() const { return at_ != end_ && *at_ >= '0' && *at_ <= '9'; }
  bool take_digits(JsonDecimal& number, int exponent_step);
  bool take_exponent(JsonDecimal& number);
  template <typename Sink>
  bool take_escape(Sink&& sink);
  std::optional<std::uint32_t> take_hex4();
  std::optional<std::uint32_t> take_code_point();

  const char* at_;
  const char* end_;
};

// The value nearest to what is written; nullopt when that is beyond the type's range.
template <typename Real>
std::optional<Real> nearest(const JsonDecimal& number);

// The UTF-8 encoding of a code point, at most 4 bytes.
std::string_view encode_utf8(std::uint32_t code_point, char (&buffer)[4]);

template <typename Sink>
bool JsonScanner::take_string(Sink&& sink) {
  if (!take('"')) return false;
  const char* begin = at_ - 1;
  const char* run = at_;
  for (; at_ != end_ && static_cast<unsigned char>(*at_) >= 0x20; ++at_) {
    if (*at_ == '"') {
      sink(std::string_view(run, at_));
      ++at_;
      return true;
    }
    if (*at_ != '\\') continue;
    sink(std::string_view(run, at_));
    ++at_;
    if (!take_escape(sink)) break;
    run = at_--;  // the loop steps over what follows the escape otherwise
  }
  at_ = begin;
  return false;
}

template <typename Sink>
bool JsonScanner::take_escape(Sink&& sink) {
  constexpr std::string_view kEscapes = "\"\\/bfnrt";
  constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  if (at_ == end_) return false;
  const char c = *at_++;
  if (c == 'u') {
    const std::optional<std::uint32_t> code_point = take_code_point();
    if (!code_point) return false;
    char buffer[4];
    sink(encode_utf8(*code_point, buffer));
    return true;
  }
  const std::size_t which = kEscapes.find(c);
  if (which == std::string_view::npos) return false;
  sink(kMeanings.substr(which, 1));
  return true;
}

}  // namespace mayfly
