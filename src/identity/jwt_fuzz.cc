// What strangers send as a token: read, and its claims as if they had been verified. What issuers
// publish as keys.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "identity/base64url.h"
#include "identity/jwt.h"
#include "identity/token_issuer.h"

namespace {

using namespace mayfly;

void read_as_token(std::string_view text) {
  const auto token = parse_token(text);
  if (!token) return;
  CHECK(text.starts_with(token->signed_text));
  CHECK(text.size() <= kMaxToken);
  static const KeySet kNoKeys = KeySet::parse(R"({"keys":[]})").value();
  CHECK(!verify_signature(*token, kNoKeys));
  std::ignore = check_claims(*token, "mayfly", WallTime());
  TokenIssuer issuer;
  issuer.project_claim = "/p";
  issuer.scopes_claim = "s";
  if (const auto who = principal_of(issuer, token->claims)) {
    CHECK(!(*who)->name.empty());
    CHECK((*who)->project != "default" || !(*who)->scopes.allow_any(Verb::Admin));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read_as_token(text);
  std::ignore = parse_issuers(text);
  if (size < 4096) std::ignore = KeySet::parse(text);
  if (const auto bytes = decode_base64url(text))
    CHECK(encode_base64url(std::as_bytes(std::span(*bytes))) == text);
  return 0;
}
