#include "runner/report/split.h"

#include <algorithm>
#include <utility>

namespace mayfly {
namespace {

constexpr std::array<std::string_view, 3> kSplitNames = {"train", "valid", "test"};

}  // namespace

std::string_view to_string(Split split) { return kSplitNames.at(std::to_underlying(split)); }

std::optional<Split> parse_split(std::string_view name) {
  const auto found = std::ranges::find(kSplitNames, name);
  if (found == kSplitNames.end()) return std::nullopt;
  return static_cast<Split>(found - kSplitNames.begin());
}

}  // namespace mayfly
