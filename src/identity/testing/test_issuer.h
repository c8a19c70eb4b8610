// An issuer of tokens for tests: a key made while the test runs, its JWK, and what it signs.
#pragma once

#include <memory>
#include <string>
#include <string_view>

struct evp_pkey_st;

namespace mayfly {

class TestIssuer {
 public:
  // `algorithm`: "RS256" or "ES256".
  TestIssuer(std::string algorithm, std::string key_id, unsigned rsa_bits = 2048);

  std::string jwk(std::string_view more = "") const;  // `more`: further members: R"(,"use":"sig")"
  std::string key_set() const;                        // of this key alone
  std::string header() const;
  // A token of any header and claims, signed with this key in the way of its algorithm.
  std::string sign(std::string_view header, std::string_view claims) const;
  std::string token(std::string_view claims) const { return sign(header(), claims); }
  // The same, "signed" by HMAC with the public key's PEM text: what a reader that lets tokens
  // choose the algorithm takes for genuine.
  std::string confused_token(std::string_view claims) const;

 private:
  std::string signature_of(const std::string& text) const;

  std::string algorithm_;
  std::string key_id_;
  std::shared_ptr<evp_pkey_st> key_;
};

// header "." claims, encoded.
std::string token_text(std::string_view header, std::string_view claims);
std::string base64url_of(std::string_view text);

}  // namespace mayfly
