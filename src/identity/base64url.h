// RFC 4648 §5 without padding, as keys and tokens are written.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace mayfly {

std::string encode_base64url(std::span<const std::byte> bytes);
// nullopt for anything but the one text that encode_base64url() makes of the bytes: no padding, no
// other characters, no bits that mean nothing.
std::optional<std::string> decode_base64url(std::string_view text);

}  // namespace mayfly
