// The public keys that an issuer signs tokens with, as it publishes them (RFC 7517, "JWKS"). Two
// kinds are taken, each for one algorithm, so that a token cannot choose how it is checked:
//
//   "kty":"RSA", 2048 bits or more           RS256
//   "kty":"EC", "crv":"P-256"                ES256
//
// Values; a set is read once and shared.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

struct evp_pkey_st;

namespace mayfly {

class VerificationKey {
 public:
  VerificationKey(std::string_view algorithm, std::shared_ptr<evp_pkey_st> key)
      : algorithm_(algorithm), key_(std::move(key)) {}

  std::string_view algorithm() const { return algorithm_; }  // "RS256", "ES256"
  // Whether `signature`, in the form that RFC 7518 §3 gives it, is this key's of `text`.
  bool verifies(std::string_view text, std::string_view signature) const;

 private:
  std::string_view algorithm_;
  std::shared_ptr<evp_pkey_st> key_;  // nobody changes it
};

class KeySet {
 public:
  static constexpr std::size_t kMaxText = 256 * 1024;

  // invalid_setting: no set of keys. Keys of other kinds and purposes are passed over; those that
  // cannot be used though they look as if they should are left out and say why. Checks numbers, so
  // it takes milliseconds: not for the loop.
  static Result<KeySet> parse(std::string_view json);

  const VerificationKey* find(std::string_view id) const;  // by "kid"; null: none
  std::size_t size() const { return keys_.size(); }
  const std::vector<std::string>& left_out() const { return left_out_; }

 private:
  std::map<std::string, VerificationKey, std::less<>> keys_;
  std::vector<std::string> left_out_;
};

}  // namespace mayfly
