// What type the values of a column are of, by all of them. No I/O; memory does not grow with the
// rows.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "runner/ingest/cell.h"
#include "runner/report/dataset_schema.h"

namespace mayfly {

// Texts that are values of no type of their own make a category where there are few different ones.
inline constexpr std::size_t kGuessedCategories = 1000;

// Texts of what is to be predicted are classes, however many.
enum class ColumnUse : std::uint8_t { Feature, Target };

class ColumnGuess {
 public:
  // `wanted`: the type that its owner names. `room`: bytes of texts that are remembered, at most.
  // `extra`: texts that stand for no value; outlives me.
  ColumnGuess(std::optional<ColumnType> wanted, ColumnUse use, std::size_t room,
              const std::vector<std::string>& extra);

  void see(const Cell& cell, std::uint64_t row);  // rows from 1

  ColumnType type() const;
  // Of a category: what was seen, in order. nullopt: there are too many.
  std::optional<std::vector<std::string>> categories() const;
  // What its owner may want to know of the decision; empty: nothing.
  std::string note(std::string_view name) const;

  std::uint64_t seen() const { return seen_; }  // with a value

 private:
  enum Class : std::uint8_t { Booleans, Integers, Huge, Numbers, Dates, Texts };
  static constexpr std::size_t kClasses = 6;
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };

  void count(Class kind, const Cell& cell, std::uint64_t row);
  void remember(std::string_view text);
  bool only(std::initializer_list<Class> kinds) const;
  bool few() const;

  std::optional<ColumnType> wanted_;
  ColumnUse use_;
  std::size_t room_;
  std::size_t most_;
  const std::vector<std::string>* extra_;
  std::uint64_t seen_ = 0;
  std::array<std::uint64_t, kClasses> classes_{};
  std::string odd_;  // the first text
  std::uint64_t odd_row_ = 0;
  std::unordered_set<std::string, Hash, std::equal_to<>> texts_;
  bool too_many_ = false;
};

// Whether a cell stands for no value, with the `extra` words that do.
bool is_missing(const Cell& cell, const std::vector<std::string>& extra);
// A value as a category, or a text: of all kinds but Missing.
std::string_view text_of(const Cell& cell, std::string& scratch);

}  // namespace mayfly
