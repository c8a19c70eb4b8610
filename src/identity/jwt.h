// Signed tokens of other issuers (RFC 7519 JWT in RFC 7515's compact form), read strictly:
//
//   base64url(header) "." base64url(claims) "." base64url(signature)
//
// Nothing of a token is believed before its signature has been verified with a key that the issuer
// published; what the header says chooses among those and must agree with the chosen one. Pure.
#pragma once

#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "core/json_reader.h"
#include "identity/json_web_key.h"

namespace mayfly {

inline constexpr std::size_t kMaxToken = 8 * 1024;
// How far the clocks of issuer and node may be apart.
inline constexpr Duration kClockSkew = std::chrono::seconds(60);

struct Token {
  std::string algorithm;         // "alg"
  std::string key_id;            // "kid"
  Json claims;                   // an object
  std::string issuer;            // its "iss"
  std::string_view signed_text;  // looks into the token
  std::string signature;
};

// Whether a credential may be one: three parts.
bool looks_like_token(std::string_view text);
// All errors are unauthenticated and say what is wrong with the token.
Result<Token> parse_token(std::string_view text);
Status verify_signature(const Token& token, const KeySet& keys);

// Of a token whose signature is good: "aud" has `audience`, "exp" has not passed, "nbf", if there,
// has; each within kClockSkew. Until when it is good.
Result<WallTime> check_claims(const Token& token, std::string_view audience, WallTime now);

}  // namespace mayfly
