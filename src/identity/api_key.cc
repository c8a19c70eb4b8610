#include "identity/api_key.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>

#include "base/check.h"
#include "identity/base64url.h"

namespace mayfly {
namespace {

constexpr std::string_view kPrefix = "mayfly_";
constexpr std::size_t kIdDigits = 12;
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kSecretDigits = 43;  // of 256 bits, without padding

bool is_base64url(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}

}  // namespace

ApiKey make_api_key(Rng& rng) {
  std::array<std::byte, kSecretBytes> secret{};
  rng.fill(secret);
  ApiKey key{.id = fmt::format("{:012x}", rng.next() >> (64 - 4 * kIdDigits)), .text = {}};
  key.text = fmt::format("{}{}_{}", kPrefix, key.id, encode_base64url(secret));
  return key;
}

std::optional<std::string_view> api_key_id(std::string_view text) {
  if (text.size() != kPrefix.size() + kIdDigits + 1 + kSecretDigits || !text.starts_with(kPrefix))
    return std::nullopt;
  const std::string_view id = text.substr(kPrefix.size(), kIdDigits);
  const std::string_view secret = text.substr(kPrefix.size() + kIdDigits + 1);
  if (id.find_first_not_of("0123456789abcdef") != std::string_view::npos ||
      text[kPrefix.size() + kIdDigits] != '_' || !std::ranges::all_of(secret, is_base64url)) {
    return std::nullopt;
  }
  return id;
}

Result<std::optional<NodeSecret>> NodeSecret::read(const Path& path) {
  const std::optional<KeyBytes> bytes = TRY(read_key_file(
      path, {.danger = "whoever read it and identity.db can try keys against them",
             .loss = "without them no key can be checked: put the file back, or remove it and "
                     "identity.db to begin without keys"}));
  if (!bytes) return std::nullopt;
  return NodeSecret(*bytes);
}

Result<NodeSecret> NodeSecret::create(const Path& path, Rng& rng) {
  return NodeSecret(TRY(create_key_file(path, rng)));
}

Digest NodeSecret::digest(std::string_view key_text) const {
  Digest digest;
  unsigned int size = 0;
  CHECK(HMAC(EVP_sha256(), bytes_.data(), static_cast<int>(bytes_.size()),
             reinterpret_cast<const unsigned char*>(key_text.data()), key_text.size(),
             reinterpret_cast<unsigned char*>(digest.bytes.data()), &size) != nullptr);
  CHECK(size == digest.bytes.size());
  return digest;
}

bool same_digest(const Digest& a, const Digest& b) {
  return CRYPTO_memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
}

}  // namespace mayfly
