// Names of functions and versions, as they stand in paths, commands and records.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace mayfly {

// [a-z0-9][a-z0-9._-]{0,62}
class FunctionName {
 public:
  static Result<FunctionName> parse(std::string_view text);
  const std::string& str() const { return text_; }
  auto operator<=>(const FunctionName&) const = default;

 private:
  explicit FunctionName(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

struct VersionNumber {
  std::uint32_t value = 0;  // counted from 1
  auto operator<=>(const VersionNumber&) const = default;
};

Result<VersionNumber> parse_version_number(std::string_view digits);

// The aliases that every function has: what its requests go to unless they are split, and what that
// was before.
inline constexpr std::string_view kChampion = "champion";
inline constexpr std::string_view kPrevious = "previous";

// Spelled like a function's name, but not of digits alone: "fraud@3" is version 3.
Status check_alias(std::string_view text);

// "fraud" is the function as its traffic says, "fraud@3" exactly that version, "fraud@previous" the
// version that the alias names.
struct ModelRef {
  FunctionName function;
  std::optional<VersionNumber> version;
  std::string alias = {};  // empty: none

  bool names_version() const { return version.has_value() || !alias.empty(); }
};

Result<ModelRef> parse_model_ref(std::string_view text);

}  // namespace mayfly
