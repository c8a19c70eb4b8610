#include "signing/envelope.h"

#include <fmt/format.h>

#include <optional>

#include "core/reason.h"
#include "core/signing_reason.h"
#include "signing/base64.h"

namespace mayfly {
namespace {

std::string signed_text(std::string_view type, std::string_view payload) {
  return fmt::format("DSSEv1 {} {} {} {}", type.size(), type, payload.size(), payload);
}

std::unexpected<Error> no_envelope(std::string_view why) {
  return refuse(reason::kInvalidSignature, fmt::format("the signature's envelope {}", why));
}

std::optional<std::string> envelope_text(const Json& json, const char* key) {
  if (!json.is_object()) return std::nullopt;
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

std::optional<std::string> envelope_bytes(const Json& json, const char* key) {
  const auto text = envelope_text(json, key);
  return text ? decode_base64(*text) : std::nullopt;
}

}  // namespace

Envelope Envelope::seal(std::string_view type, std::string_view payload, const PrivateKey& key) {
  Envelope envelope;
  envelope.type_ = type;
  envelope.payload_ = payload;
  envelope.signature_ = key.sign(signed_text(type, payload));
  return envelope;
}

Result<Envelope> Envelope::parse(const Json& json) {
  auto type = envelope_text(json, "payloadType");
  auto payload = envelope_bytes(json, "payload");
  if (!type || !payload) return no_envelope("has no payload");
  const auto signatures = json.find("signatures");
  if (signatures == json.end() || !signatures->is_array() || signatures->size() != 1)
    return no_envelope("must hold one signature");
  auto signature = envelope_bytes(signatures->front(), "sig");
  if (!signature) return no_envelope("holds a signature that is not base64");
  Envelope envelope;
  envelope.type_ = *std::move(type);
  envelope.payload_ = *std::move(payload);
  envelope.signature_ = *std::move(signature);
  return envelope;
}

Json Envelope::json() const {
  return {{"payload", encode_base64(payload_)},
          {"payloadType", type_},
          {"signatures", Json::array({{{"sig", encode_base64(signature_)}, {"keyid", ""}}})}};
}

Result<std::string_view> Envelope::known(std::string_view type) const {
  if (type_ != type) return no_envelope(fmt::format("does not hold {}", type));
  return payload_;
}

Result<std::string_view> Envelope::open(std::string_view type, const PublicKey& key) const {
  if (type_ != type) return no_envelope(fmt::format("does not hold {}", type));
  if (!key.verifies(signed_text(type_, payload_), signature_)) {
    return refuse(reason::kInvalidSignature,
                  fmt::format("the signature is not one that the key {} made of this text: it was "
                              "altered, or signed with another key",
                              key.id().substr(0, 16)));
  }
  return payload_;
}

}  // namespace mayfly
