// Values sealed at rest: AES-256-GCM under a key of the node's own.
//
//   sealed value = nonce (12 bytes, random, never used again) | ciphertext | tag (16 bytes)
//
// What a value is of is bound to it: sealed for one name it opens for no other.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/rng.h"
#include "core/secret.h"
#include "identity/key_file.h"

namespace mayfly {

class SealingKey {
 public:
  explicit SealingKey(const KeyBytes& bytes) : bytes_(bytes) {}
  ~SealingKey();
  SealingKey(const SealingKey&) = default;
  SealingKey& operator=(const SealingKey&) = default;

  std::vector<std::byte> seal(std::string_view value, std::string_view bound_to, Rng& rng) const;
  // DataLoss: sealed with another key, for another name, or damaged since; which is not to be told.
  Result<SecretBytes> open(std::span<const std::byte> sealed, std::string_view bound_to) const;

 private:
  KeyBytes bytes_;
};

}  // namespace mayfly
