// Secrets: values that a function is given to know, and that stand nowhere else. Their names are a
// part of a version, their values never.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly {

namespace reason {
// Of the catalogue in core/reason.cc.
inline constexpr std::string_view kSecretUnavailable = "secret_unavailable";
}  // namespace reason

inline constexpr std::size_t kMaxSecretName = 64;
inline constexpr std::size_t kMaxSecretBytes = std::size_t{64} * 1024;  // of one value
inline constexpr std::size_t kMostSecretsOfVersion = 32;

// [A-Za-z_][A-Za-z0-9_]*, at most kMaxSecretName; invalid_setting. A file's name as well.
Status check_secret_name(std::string_view name);

// Its memory is wiped when it is let go.
class SecretBytes {
 public:
  explicit SecretBytes(std::string_view bytes) : bytes_(bytes.begin(), bytes.end()) {}
  SecretBytes(SecretBytes&&) noexcept = default;
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(SecretBytes&&) = delete;
  ~SecretBytes();
  std::string_view view() const { return {bytes_.data(), bytes_.size()}; }

 private:
  std::vector<char> bytes_;  // not a string: what is moved from leaves nothing behind
};

struct Secret {
  std::string name;
  SecretBytes value;
};

// Shared by those who start a process with them; null: there are none.
using Secrets = std::shared_ptr<const std::vector<Secret>>;

}  // namespace mayfly
