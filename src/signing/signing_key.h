// Keys that signatures are made with: ECDSA on P-256 over SHA-256. Values.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/rng.h"

struct evp_pkey_st;

namespace mayfly {

class PublicKey {
 public:
  static constexpr std::size_t kMaxText = 4096;
  // PEM, "BEGIN PUBLIC KEY". invalid_setting: anything but a sound key of P-256.
  static Result<PublicKey> parse(std::string_view pem);

  const std::string& pem() const { return pem_; }
  // SHA-256 of the PEM as this writes it, 64 hexadecimal digits: what signatures call their key.
  const std::string& id() const { return id_; }
  // Whether `signature`, DER of RFC 3279 §2.2.3, is this key's of `text`.
  bool verifies(std::string_view text, std::string_view signature) const;

 private:
  friend class PrivateKey;
  explicit PublicKey(std::shared_ptr<evp_pkey_st> key);

  std::shared_ptr<evp_pkey_st> key_;  // nobody changes it
  std::string pem_;
  std::string id_;
};

class PrivateKey {
 public:
  static constexpr std::size_t kBytes = 32;

  // The number that the key is. nullopt: one of 2^32 that is none.
  static std::optional<PrivateKey> create(std::span<const std::byte, kBytes> bytes);

  const PublicKey& public_key() const { return public_; }
  std::string sign(std::string_view text) const;  // DER

 private:
  explicit PrivateKey(std::shared_ptr<evp_pkey_st> key) : key_(key), public_(std::move(key)) {}

  std::shared_ptr<evp_pkey_st> key_;
  PublicKey public_;
};

// Bytes that PrivateKey::create() takes.
std::array<std::byte, PrivateKey::kBytes> draw_private_key(Rng& rng);

}  // namespace mayfly
