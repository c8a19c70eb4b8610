#include "runner/ingest/conversion.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "base/utf8.h"
#include "core/iso_date.h"
#include "core/wire/json_text.h"
#include "runner/ingest/guess.h"
#include "sketch/byte_reader.h"

namespace mayfly {
namespace {

constexpr double kNoNumber = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kShownCell = 64;

enum class Canonical : char { Missing, Whole, Number, Text, Bytes };

std::optional<double> number_of(const Cell& cell) {
  switch (cell.kind) {
    case CellKind::Boolean:
    case CellKind::Integer:
      return static_cast<double>(cell.integer);
    case CellKind::Number:
      return cell.number;
    case CellKind::Field:
    case CellKind::Text:
      return number_in(cell.text);
    default:
      return std::nullopt;
  }
}

std::optional<std::int64_t> whole(double number) {
  constexpr double kBeyond = 9223372036854775808.0;  // 2^63
  if (number != std::trunc(number) || !(number > -kBeyond && number < kBeyond)) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

std::optional<std::int64_t> integer_of(const Cell& cell) {
  if (cell.kind == CellKind::Integer || cell.kind == CellKind::Boolean) return cell.integer;
  if (cell.kind == CellKind::Field || cell.kind == CellKind::Text) {
    if (const auto integer = integer_in(cell.text)) return integer;
  }
  const auto number = number_of(cell);
  return number ? whole(*number) : std::nullopt;
}

std::optional<std::int64_t> date_of(const Cell& cell) {
  if (cell.kind == CellKind::Date) return cell.integer;
  if (cell.kind == CellKind::Field || cell.kind == CellKind::Text) return parse_iso_date(cell.text);
  return std::nullopt;
}

std::string_view wanted_words(ColumnType type) {
  switch (type) {
    case ColumnType::Number:
      return "number";
    case ColumnType::Integer:
      return "whole number of 64 bits";
    case ColumnType::Date:
      return "date of ISO 8601";
    case ColumnType::Category:
      return "category of the schema";
    case ColumnType::Text:
    case ColumnType::Image:
      break;
  }
  return "value of it";
}

}  // namespace

bool ColumnValues::missing(std::size_t row) const {
  switch (type) {
    case ColumnType::Number:
      return std::isnan(numbers[row]);
    case ColumnType::Integer:
    case ColumnType::Date:
      return integers[row] == kMissingInteger;
    case ColumnType::Category:
      return codes[row] == kMissingCode;
    case ColumnType::Text:
    case ColumnType::Image:
      return texts[row].empty();
  }
  return true;
}

void ColumnValues::append_canonical(std::string& out, std::size_t row) const {
  if (missing(row)) {
    out += static_cast<char>(Canonical::Missing);
    return;
  }
  const auto put_whole = [&](std::int64_t value) {
    out += static_cast<char>(Canonical::Whole);
    append_value(out, value);
  };
  switch (type) {
    case ColumnType::Number:
      if (const auto value = whole(numbers[row])) return put_whole(*value);
      out += static_cast<char>(Canonical::Number);
      append_value(out, numbers[row]);
      return;
    case ColumnType::Integer:
    case ColumnType::Date:
      return put_whole(integers[row]);
    case ColumnType::Category:
    case ColumnType::Text:
    case ColumnType::Image:
      out += static_cast<char>(type == ColumnType::Image ? Canonical::Bytes : Canonical::Text);
      append_text(out, texts[row]);
      return;
  }
}

ColumnConverter::ColumnConverter(const SchemaColumn& column,
                                 const std::vector<std::string>& missing_words)
    : column_(column), missing_words_(missing_words) {
  for (std::size_t i = 0; i < column.categories.size(); ++i)
    codes_.emplace(column.categories[i], static_cast<std::int32_t>(i));
}

void ColumnConverter::convert(const std::vector<Cell>& cells, ColumnValues& values,
                              std::vector<std::string>& complaints) {
  texts_.clear();
  values = {.type = column_.type, .numbers = {}, .integers = {}, .codes = {}, .texts = {}};
  for (std::size_t row = 0; row < cells.size(); ++row) {
    if (is_missing(cells[row], missing_words_)) {
      put_missing(values);
      continue;
    }
    if (convert_one(cells[row], values)) continue;
    put_missing(values);
    if (!complaints[row].empty()) continue;
    std::string scratch;
    complaints[row] = fmt::format("'{}': '{}' is no {}", column_.name,
                                  to_utf8(text_of(cells[row], scratch).substr(0, kShownCell)),
                                  wanted_words(column_.type));
  }
}

bool ColumnConverter::convert_one(const Cell& cell, ColumnValues& values) {
  switch (column_.type) {
    case ColumnType::Number:
      if (const auto number = number_of(cell)) {
        values.numbers.push_back(*number);
        return true;
      }
      return false;
    case ColumnType::Integer:
    case ColumnType::Date: {
      const auto value = column_.type == ColumnType::Date ? date_of(cell) : integer_of(cell);
      if (value) values.integers.push_back(*value);
      return value.has_value();
    }
    case ColumnType::Category:
      return put_category(cell, values);
    case ColumnType::Text:
      values.texts.push_back(clean(cell));
      return true;
    case ColumnType::Image:
      values.texts.push_back(cell.text);
      return true;
  }
  return false;
}

bool ColumnConverter::put_category(const Cell& cell, ColumnValues& values) {
  std::string_view text = clean(cell);
  auto known = codes_.find(text);
  // Booleans are false and true however the file writes them.
  if (known == codes_.end() && cell.kind == CellKind::Field) {
    const auto truth = boolean_in(cell.text);
    if (truth) known = codes_.find(*truth ? "true" : "false");
  }
  if (known == codes_.end()) return false;
  values.codes.push_back(known->second);
  values.texts.push_back(known->first);
  return true;
}

void ColumnConverter::put_missing(ColumnValues& values) {
  switch (column_.type) {
    case ColumnType::Number:
      values.numbers.push_back(kNoNumber);
      return;
    case ColumnType::Integer:
    case ColumnType::Date:
      values.integers.push_back(kMissingInteger);
      return;
    case ColumnType::Category:
      values.codes.push_back(kMissingCode);
      values.texts.emplace_back();
      return;
    case ColumnType::Text:
    case ColumnType::Image:
      values.texts.emplace_back();
      return;
  }
}

// As UTF-8.
std::string_view ColumnConverter::clean(const Cell& cell) {
  const std::string_view text = text_of(cell, scratch_);
  if (text.data() == scratch_.data()) return texts_.emplace_back(text);
  return is_utf8(text) ? text : std::string_view(texts_.emplace_back(to_utf8(text)));
}

}  // namespace mayfly
