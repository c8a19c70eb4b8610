#include "runner/ingest/guess.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "core/iso_date.h"
#include "core/wire/json_text.h"

namespace mayfly {
namespace {

constexpr std::size_t kLongestGuessed = 128;
constexpr std::size_t kFewAnyway = 20;
constexpr std::size_t kShownValue = 40;

}  // namespace

bool is_missing(const Cell& cell, const std::vector<std::string>& extra) {
  if (cell.kind == CellKind::Missing) return true;
  if (cell.kind != CellKind::Field && cell.kind != CellKind::Text) return false;
  if (cell.text.empty()) return true;
  if (cell.kind == CellKind::Field && !cell.quoted && is_missing_word(cell.text)) return true;
  return std::ranges::find(extra, cell.text) != extra.end();
}

std::string_view text_of(const Cell& cell, std::string& scratch) {
  switch (cell.kind) {
    case CellKind::Missing:
      return {};
    case CellKind::Boolean:
      return cell.integer != 0 ? "true" : "false";
    case CellKind::Integer:
      scratch = std::to_string(cell.integer);
      return scratch;
    case CellKind::Number:
      scratch = number_text(cell.number);
      return scratch;
    case CellKind::Date:
      scratch = format_iso_date(cell.integer);
      return scratch;
    case CellKind::Field:
    case CellKind::Text:
      return cell.text;
  }
  return {};
}

ColumnGuess::ColumnGuess(std::optional<ColumnType> wanted, ColumnUse use, std::size_t room,
                         const std::vector<std::string>& extra)
    : wanted_(wanted),
      use_(use),
      room_(room),
      most_(wanted == ColumnType::Category || use == ColumnUse::Target ? kMaxCategories
                                                                       : kGuessedCategories),
      extra_(&extra) {
  too_many_ = wanted && *wanted != ColumnType::Category;
}

void ColumnGuess::count(Class kind, const Cell& cell, std::uint64_t row) {
  ++classes_[kind];
  if (kind == Texts && odd_row_ == 0) {
    odd_ = to_utf8(cell.text.substr(0, kShownValue));
    odd_row_ = row;
  }
  if (too_many_) return;
  std::string scratch;
  const auto truth =
      kind == Booleans && cell.kind == CellKind::Field ? boolean_in(cell.text) : std::nullopt;
  remember(truth ? (*truth ? "true" : "false") : text_of(cell, scratch));
}

void ColumnGuess::remember(std::string_view text) {
  if (texts_.contains(text)) return;
  const std::size_t longest = wanted_ ? kMaxCategory : kLongestGuessed;
  // As it will be when it is a category: as UTF-8 it is longer.
  if (text.size() <= longest && !is_utf8(text)) return remember(to_utf8(text));
  if (text.size() > longest || texts_.size() == most_ || text.size() + 64 > room_) {
    too_many_ = true;
    texts_.clear();
    return;
  }
  room_ -= text.size() + 64;
  texts_.emplace(text);
}

void ColumnGuess::see(const Cell& cell, std::uint64_t row) {
  if (is_missing(cell, *extra_)) return;
  ++seen_;
  switch (cell.kind) {
    case CellKind::Missing:
      return;
    case CellKind::Boolean:
      return count(Booleans, cell, row);
    case CellKind::Integer:
      return count(Integers, cell, row);
    case CellKind::Number:
      return count(Numbers, cell, row);
    case CellKind::Date:
      return count(Dates, cell, row);
    case CellKind::Text:
      return count(parse_iso_date(cell.text) ? Dates : Texts, cell, row);
    case CellKind::Field:
      break;
  }
  if (integer_in(cell.text)) return count(Integers, cell, row);
  if (number_in(cell.text)) {
    const bool whole = cell.text.find_first_of(".eEnN") == std::string_view::npos;
    return count(whole ? Huge : Numbers, cell, row);
  }
  if (boolean_in(cell.text)) return count(Booleans, cell, row);
  count(parse_iso_date(cell.text) ? Dates : Texts, cell, row);
}

bool ColumnGuess::only(std::initializer_list<Class> kinds) const {
  std::uint64_t there = 0;
  for (const Class kind : kinds) there += classes_[kind];
  return there == seen_;
}

bool ColumnGuess::few() const {
  return !too_many_ &&
         (use_ == ColumnUse::Target || texts_.size() <= kFewAnyway || texts_.size() * 2 <= seen_);
}

ColumnType ColumnGuess::type() const {
  if (wanted_) return *wanted_;
  if (seen_ == 0) return ColumnType::Category;
  if (only({Booleans})) return ColumnType::Category;
  if (only({Integers})) return ColumnType::Integer;
  if (only({Dates})) return ColumnType::Date;
  // Whole numbers beyond 64 bits alone are labels: as numbers they would not stay what they are.
  if (classes_[Numbers] > 0 && only({Integers, Huge, Numbers})) return ColumnType::Number;
  return few() ? ColumnType::Category : ColumnType::Text;
}

std::optional<std::vector<std::string>> ColumnGuess::categories() const {
  if (too_many_) return std::nullopt;
  std::vector<std::string> all(texts_.begin(), texts_.end());
  std::ranges::sort(all);
  return all;
}

std::string ColumnGuess::note(std::string_view name) const {
  if (wanted_ || seen_ == 0) return {};
  const ColumnType decided = type();
  if (decided == ColumnType::Date)
    return fmt::format("'{}' holds dates: rows could be split by it, with --time", name);
  const std::uint64_t numbers = classes_[Integers] + classes_[Numbers] + classes_[Huge];
  const bool texts = decided == ColumnType::Category || decided == ColumnType::Text;
  if (!texts || classes_[Texts] == 0) return {};
  const auto nearly = [&](std::uint64_t count) { return count * 10 >= seen_ * 9; };
  if (!nearly(numbers) && !nearly(classes_[Dates])) return {};
  return fmt::format(
      "'{}' is a {} though {} of its {} values are {}: row {} has '{}'; name its type in the "
      "schema, or that word among those that stand for no value",
      name, to_string(decided), nearly(numbers) ? numbers : classes_[Dates], seen_,
      nearly(numbers) ? "numbers" : "dates", odd_row_, odd_);
}

}  // namespace mayfly
