#include "signing/base64.h"

#include <openssl/evp.h>

#include <limits>

#include "base/check.h"

namespace mayfly {
namespace {

constexpr std::size_t kMostBytes = std::numeric_limits<int>::max() / 2;

const unsigned char* octets(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* octets(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }

}  // namespace

std::string encode_base64(std::string_view bytes) {
  CHECK(bytes.size() < kMostBytes);
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // OpenSSL ends it with a zero
  const int size = EVP_EncodeBlock(octets(text), octets(bytes), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.empty()) return std::string();
  if (text.size() % 4 != 0 || text.size() > kMostBytes) return std::nullopt;
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(octets(bytes), octets(text), static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  bytes.resize(static_cast<std::size_t>(size));
  for (int padding = 0;
       padding < 2 && text[text.size() - 1 - static_cast<std::size_t>(padding)] == '='; ++padding)
    bytes.pop_back();
  if (encode_base64(bytes) != text) return std::nullopt;  // OpenSSL passes over spaces and more
  return bytes;
}

}  // namespace mayfly
