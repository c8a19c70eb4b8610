// Text of unknown origin as UTF-8 (The Unicode Standard, table 3-7).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mayfly {

// The bytes of the character that `text` begins with, 1 to 4; 0: it begins with none.
std::size_t utf8_length(std::string_view text);

// Each byte that is no part of a character becomes U+FFFD.
std::string to_utf8(std::string_view text);

}  // namespace mayfly
