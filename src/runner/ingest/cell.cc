#include "runner/ingest/cell.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "core/iso_date.h"

namespace mayfly {
namespace {

constexpr std::size_t kLongestNumber = 400;

std::string_view without_blanks(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  const auto first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

bool is_decimal_digit(char c) { return c >= '0' && c <= '9'; }

// The sign apart, and whether what follows begins like a number, not like a label: "007".
std::optional<std::string_view> unsigned_part(std::string_view text) {
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  if (text.empty() || text[0] == '-' || text[0] == '+') return std::nullopt;
  if (text.size() > 1 && text[0] == '0' && is_decimal_digit(text[1])) return std::nullopt;
  return text;
}

}  // namespace

std::optional<std::int64_t> integer_in(std::string_view text) {
  text = without_blanks(text);
  const auto digits = unsigned_part(text);
  if (!digits || digits->size() > 19 || !std::ranges::all_of(*digits, is_decimal_digit))
    return std::nullopt;
  if (text[0] == '+') text.remove_prefix(1);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> number_in(std::string_view text) {
  text = without_blanks(text);
  if (text.size() > kLongestNumber || !unsigned_part(text)) return std::nullopt;
  if (text[0] == '+') text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size()) return std::nullopt;
  // Too small is as near to zero as it gets; too large is no value.
  if (error == std::errc::result_out_of_range) {
    value = std::strtod(std::string(text).c_str(), nullptr);
    if (std::isinf(value)) return std::nullopt;
    return value;
  }
  if (error != std::errc() || std::isnan(value)) return std::nullopt;
  return value;
}

std::optional<bool> boolean_in(std::string_view text) {
  text = without_blanks(text);
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  return std::nullopt;
}

bool is_missing_word(std::string_view text) {
  text = without_blanks(text);
  if (text.empty()) return true;
  if (text.size() > 4) return false;
  constexpr std::array<std::string_view, 12> kWords = {"NA",  "N/A", "n/a",  "#N/A", "<NA>", "NaN",
                                                       "nan", "NAN", "null", "NULL", "None", "na"};
  return std::ranges::find(kWords, text) != kWords.end();
}

std::optional<double> instant_of(const Cell& cell) {
  if (cell.kind == CellKind::Date || cell.kind == CellKind::Integer)
    return static_cast<double>(cell.integer);
  if (cell.kind == CellKind::Number && std::isfinite(cell.number)) return cell.number;
  if (cell.kind != CellKind::Field && cell.kind != CellKind::Text) return std::nullopt;
  if (const auto date = parse_iso_date(cell.text)) return static_cast<double>(*date);
  const auto number = number_in(cell.text);
  return number && std::isfinite(*number) ? number : std::nullopt;
}

std::string number_text(double number) { return fmt::format("{}", number); }

}  // namespace mayfly
