// Writing JSON by appending to a string: what replies are made of.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mayfly {

bool is_utf8(std::string_view text);

// Quoted and escaped. Bytes that are not UTF-8 become U+FFFD: callers to whom that matters ask
// is_utf8 first.
void append_json_string(std::string& out, std::string_view text);

void append_json_number(std::string& out, std::int64_t value);
void append_json_number(std::string& out, std::uint64_t value);
// The shortest text that reads back as exactly this value; "1.0", never "1", so that it stays a
// floating-point number; NaN, Infinity and -Infinity as Python reads and writes them.
void append_json_number(std::string& out, float value);
void append_json_number(std::string& out, double value);

}  // namespace mayfly
