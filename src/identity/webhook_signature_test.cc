#include "identity/webhook_signature.h"

#include "identity/base64url.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("messages are signed as the specification's published example says") {
  const auto bytes = decode_base64url("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
  REQUIRE(bytes.has_value());
  const std::string_view key(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  CHECK(sign_webhook(key, {.id = "msg_p5jXN8AQM9LWM0D4loKWxJek",
                           .timestamp = 1614265330,
                           .body = R"({"test": 2432232314})"}) ==
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
  CHECK(webhook_key_text(key) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
}

TEST_CASE("another key, id, time or body has another signature") {
  const WebhookMessage message{.id = "a", .timestamp = 1, .body = "b"};
  const std::string signature = sign_webhook("key", message);
  CHECK(sign_webhook("key2", message) != signature);
  CHECK(sign_webhook("key", {.id = "b", .timestamp = 1, .body = "b"}) != signature);
  CHECK(sign_webhook("key", {.id = "a", .timestamp = 2, .body = "b"}) != signature);
  CHECK(sign_webhook("key", {.id = "a", .timestamp = 1, .body = "c"}) != signature);
}
