// One value of a row, as a foreign file gives it, and what texts stand for. No I/O.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mayfly {

// Field: what CSV has, which may stand for a value of any type. Text: a string, and nothing else.
enum class CellKind : std::uint8_t { Missing, Boolean, Integer, Number, Date, Field, Text };

struct Cell {
  CellKind kind = CellKind::Missing;
  bool quoted = false;       // a field that stood in quotes
  std::int64_t integer = 0;  // Boolean, Integer, Date: milliseconds since 1970
  double number = 0;         // Number
  std::string_view text{};   // Field, Text; valid until the source is asked again
};

// Of a field, without the blanks around it. nullopt: it is none.
std::optional<std::int64_t> integer_in(std::string_view text);  // not 007, which names something
std::optional<double> number_in(std::string_view text);         // "1e3", "-.5", "inf"; no NaN
std::optional<bool> boolean_in(std::string_view text);          // true, false, True, …; not 1, 0

// "", "NA", "N/A", "NaN", "null", "None", …: what tools write where there is no value.
bool is_missing_word(std::string_view text);

// When something happened, as a number that grows with time: of dates, and of numbers as they are.
std::optional<double> instant_of(const Cell& cell);

std::string number_text(double number);  // the shortest that reads back

}  // namespace mayfly
