// Values of tables as JSON text.
#pragma once

#include <string>
#include <string_view>

namespace mayfly {

// A CSV field: a number or a boolean where it reads as JSON's, null where it is empty, else, and
// wherever it is quoted, a string.
void append_field_as_json(std::string& out, std::string_view text, bool quoted);

}  // namespace mayfly
