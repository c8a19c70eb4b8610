// Values of Arrow arrays as text.
#pragma once

#include <arrow/array.h>

#include <cstdint>
#include <string>

namespace mayfly {

// JSON: numbers that JSON has not (NaN, infinities) are null, what has no JSON of its own (times,
// decimals) is its text.
void append_arrow_json(std::string& out, const arrow::Array& array, std::int64_t row);

// A CSV field, quoted where it must be. No value is nothing, an empty text "", a list its JSON.
void append_arrow_csv(std::string& out, const arrow::Array& array, std::int64_t row);
void append_csv_text(std::string& out, std::string_view text);

}  // namespace mayfly
