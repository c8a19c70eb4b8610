#include "runner/batch/json_value.h"

#include <algorithm>

#include "core/wire/json_text.h"

namespace mayfly {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Takes digits off the front; whether there was one.
bool take_digits(std::string_view& text) {
  const auto end = std::ranges::find_if_not(text, is_digit);
  const auto count = static_cast<std::size_t>(end - text.begin());
  text.remove_prefix(count);
  return count > 0;
}

// RFC 8259, section 6.
bool is_json_number(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  if (text.size() > 1 && text[0] == '0' && is_digit(text[1])) return false;
  if (!take_digits(text)) return false;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    if (!take_digits(text)) return false;
  }
  if (text.starts_with('e') || text.starts_with('E')) {
    text.remove_prefix(1);
    if (text.starts_with('+') || text.starts_with('-')) text.remove_prefix(1);
    if (!take_digits(text)) return false;
  }
  return text.empty();
}

}  // namespace

void append_field_as_json(std::string& out, std::string_view text, bool quoted) {
  if (!quoted && text.empty()) {
    out += "null";
  } else if (!quoted && (text == "true" || text == "false" || is_json_number(text))) {
    out += text;
  } else {
    append_json_string(out, text);
  }
}

}  // namespace mayfly
