// Numbers and texts in a sketch's serialised form: little-endian, lengths before what they count.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/result.h"

namespace mayfly {

template <typename T>
  requires std::is_trivially_copyable_v<T>
void append_value(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
inline void append_text(std::string& out, std::string_view text) {
  append_value(out, static_cast<std::uint32_t>(text.size()));
  out += text;
}

// Takes values off the front; DataLoss where they end too early.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
    requires std::is_arithmetic_v<T>
  Result<T> value() {
    T value{};
    if (rest_.size() < sizeof value) return cut();
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_.remove_prefix(sizeof value);
    return value;
  }
  Result<std::string_view> text() { return bytes(TRY(value<std::uint32_t>())); }
  Result<std::string_view> bytes(std::size_t count) {
    if (rest_.size() < count) return cut();
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  bool at_end() const { return rest_.empty(); }
  std::size_t left() const { return rest_.size(); }

 private:
  static std::unexpected<Error> cut() { return fail(Code::DataLoss, "a sketch is cut"); }
  std::string_view rest_;
};

}  // namespace mayfly
