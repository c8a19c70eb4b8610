#include "core/secret.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>

#include "core/reason.h"

namespace mayfly {
namespace {

bool begins_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

}  // namespace

Status check_secret_name(std::string_view name) {
  const bool fits =
      !name.empty() && name.size() <= kMaxSecretName && begins_name(name.front()) &&
      std::ranges::all_of(name, [](char c) { return begins_name(c) || (c >= '0' && c <= '9'); });
  if (fits) return {};
  return refuse(reason::kInvalidSetting,
                fmt::format("'{}' is no name of a secret: letters, digits and '_', no digit first, "
                            "at most {} characters, as in API_KEY",
                            name.substr(0, 80), kMaxSecretName));
}

SecretBytes::~SecretBytes() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

}  // namespace mayfly
