// RFC 4648 §4, with padding, as signatures and their payloads are written.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mayfly {

std::string encode_base64(std::string_view bytes);
// nullopt for anything but the one text that encode_base64() makes of the bytes.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace mayfly
