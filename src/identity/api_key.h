// API keys: 256 random bits, shown once. What is kept of one is a keyed digest, which is enough
// because nobody can guess the bits (a password would need a slow hash).
//
//   mayfly_<id>_<secret>     id: 12 hexadecimal digits, not secret; secret: 43 of base64url
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "base/rng.h"
#include "identity/key_file.h"
#include "store/digest.h"

namespace mayfly {

struct ApiKey {
  std::string id;
  std::string text;  // whole
};

ApiKey make_api_key(Rng& rng);
// The id in a text that has the form of a key; it looks into `text`.
std::optional<std::string_view> api_key_id(std::string_view text);

// What the digests of keys are keyed with, so that a copy of the database alone tells nothing that
// could be checked against a key that was found elsewhere.
class NodeSecret {
 public:
  // Both block. nullopt: there is no such file. An error for one that others may read, or that is
  // not a secret.
  static Result<std::optional<NodeSecret>> read(const Path& path);
  // In a new file that only its owner may read; one that is there already is an error.
  static Result<NodeSecret> create(const Path& path, Rng& rng);
  Digest digest(std::string_view key_text) const;  // HMAC-SHA256

 private:
  explicit NodeSecret(const KeyBytes& bytes) : bytes_(bytes) {}
  KeyBytes bytes_;
};

// In a time that does not depend on where they differ.
bool same_digest(const Digest& a, const Digest& b);

}  // namespace mayfly
