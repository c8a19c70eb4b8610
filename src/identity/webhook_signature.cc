#include "identity/webhook_signature.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <vector>

#include "base/check.h"

namespace mayfly {
namespace {

const unsigned char* unsigned_bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string base64_of(std::string_view bytes) {
  std::vector<unsigned char> text((bytes.size() + 2) / 3 * 4 + 1);
  const int size =
      EVP_EncodeBlock(text.data(), unsigned_bytes(bytes), static_cast<int>(bytes.size()));
  return {reinterpret_cast<const char*>(text.data()), static_cast<std::size_t>(size)};
}

}  // namespace

std::string sign_webhook(std::string_view key, const WebhookMessage& message) {
  const std::string content = fmt::format("{}.{}.{}", message.id, message.timestamp, message.body);
  std::array<unsigned char, EVP_MAX_MD_SIZE> mac{};
  unsigned size = 0;
  CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), unsigned_bytes(content),
             content.size(), mac.data(), &size) != nullptr);
  return "v1," + base64_of({reinterpret_cast<const char*>(mac.data()), size});
}

std::string webhook_key_text(std::string_view key) { return "whsec_" + base64_of(key); }

}  // namespace mayfly
