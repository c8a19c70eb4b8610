#include "core/wire/json_base64.h"

#include <algorithm>
#include <array>

namespace mayfly {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<std::uint8_t, 256> kValues = [] {
  std::array<std::uint8_t, 256> values{};
  values.fill(0xFF);
  for (std::size_t i = 0; i < kAlphabet.size(); ++i)
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::uint8_t>(i);
  return values;
}();

}  // namespace

std::uint8_t Base64Decoder::value_of(char c) { return kValues[static_cast<unsigned char>(c)]; }

bool Base64Decoder::finish() const {
  return held_ != 1 && (padding_ == 0 || held_ + padding_ == 4);
}

void append_json_base64(std::string& out, std::string_view bytes) {
  out += R"({"b64":")";
  for (; !bytes.empty(); bytes.remove_prefix(std::min<std::size_t>(bytes.size(), 3))) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i)
      group = group << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0);
    const std::size_t characters = std::min<std::size_t>(bytes.size(), 3) + 1;
    for (std::size_t i = 0; i < 4; ++i)
      out += i < characters ? kAlphabet[group >> (18 - 6 * i) & 63] : '=';
  }
  out += "\"}";
}

}  // namespace mayfly
