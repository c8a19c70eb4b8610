// BYTES inside JSON as TensorFlow Serving carries them: {"b64":"<base64>"}, RFC 4648's first
// alphabet, with its padding or without. Internal to this folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "core/wire/json_scanner.h"

namespace mayfly {

// What an element of a BYTES tensor looks like in JSON.
enum class JsonBytes : std::uint8_t {
  Text,          // a string; what is not UTF-8 has no form
  TextOrBase64,  // a string, or {"b64":"…"}; written so where it is not UTF-8
  Base64,        // written as {"b64":"…"} whatever it is; read like TextOrBase64
};

void append_json_base64(std::string& out, std::string_view bytes);

// Takes base64 in pieces of any size.
class Base64Decoder {
 public:
  // Passes what became known to `sink`; false: this is no base64.
  template <typename Sink>
  bool push(std::string_view text, Sink&& sink);
  // After the last piece: whether it may end here.
  bool finish() const;

 private:
  // The six bits that `c` stands for; above 63: it stands for none.
  static std::uint8_t value_of(char c);

  std::uint32_t bits_ = 0;
  std::uint8_t held_ = 0;     // characters of the group that has begun
  std::uint8_t padding_ = 0;  // '=' seen
};

// Whether an object stands here that is a value and does not name inputs.
inline bool begins_json_base64(JsonScanner in) { return in.take('{') && in.take_word("\"b64\""); }

// Passes the decoded bytes to `sink` piece by piece; false: the object is not of this form.
template <typename Sink>
bool take_json_base64(JsonScanner& in, Sink&& sink) {
  if (!in.take('{') || !in.take_word("\"b64\"") || !in.take(':')) return false;
  Base64Decoder decoder;
  bool is_base64 = true;
  const bool is_string = in.take_string(
      [&](std::string_view piece) { is_base64 = is_base64 && decoder.push(piece, sink); });
  return is_string && is_base64 && decoder.finish() && in.take('}');
}

template <typename Sink>
bool Base64Decoder::push(std::string_view text, Sink&& sink) {
  for (const char c : text) {
    if (c == '=') {
      ++padding_;
      if (held_ < 2 || held_ + padding_ > 4) return false;
      continue;
    }
    const std::uint8_t six = value_of(c);
    if (six > 63 || padding_ > 0) return false;
    bits_ = bits_ << 6 | six;
    if (++held_ == 1) continue;
    // The 2nd, 3rd and 4th character complete a byte each.
    const int rest = 8 - 2 * held_;
    const char byte = static_cast<char>(bits_ >> rest & 0xFF);
    sink(std::string_view(&byte, 1));
    held_ &= 3;
  }
  return true;
}

}  // namespace mayfly
