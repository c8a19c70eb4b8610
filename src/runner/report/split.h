// The three parts of a snapshot's rows.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace mayfly {

enum class Split : std::uint8_t { Train, Valid, Test };
inline constexpr std::array kSplits = {Split::Train, Split::Valid, Split::Test};
std::string_view to_string(Split split);  // "valid": the folder's name
std::optional<Split> parse_split(std::string_view name);

}  // namespace mayfly
