// How a message is signed whose receiver shares a key with the node: the open specification
// "Standard Webhooks", which many libraries verify. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mayfly {

inline constexpr std::size_t kWebhookKeyBytes = 32;

struct WebhookMessage {
  std::string_view id;
  std::int64_t timestamp = 0;  // seconds since the epoch, of this attempt
  std::string_view body;
};

// "v1,BASE64": HMAC-SHA256 of "id.timestamp.body" under the key's bytes.
std::string sign_webhook(std::string_view key, const WebhookMessage& message);
// A key as its receiver writes it down: "whsec_BASE64".
std::string webhook_key_text(std::string_view key);

}  // namespace mayfly
