// Real numbers and words in JSON, on top of core/json_reader.h. Internal to this folder.
#pragma once

#include <cmath>
#include <span>
#include <string_view>
#include <utility>

#include "core/json_reader.h"

namespace mayfly::rollout {

// Leaves `out` as it is when the key is absent.
inline void read_real(JsonReader& reader, std::string_view key, double& out, double low,
                      double high) {
  const Json* found = reader.value(key);
  if (found == nullptr) return;
  const double number = found->is_number() ? found->get<double>() : std::nan("");
  if (number >= low && number <= high) {
    out = number;
  } else {
    reader.error(key, fmt::format("must be a number from {} to {}", low, high));
  }
}

template <typename Enum>
using Word = std::pair<std::string_view, Enum>;

template <typename Enum>
void read_word(JsonReader& reader, std::string_view key, Enum& out,
               std::span<const Word<Enum>> words) {
  const Json* found = reader.value(key);
  if (found == nullptr) return;
  std::string choices;
  for (const auto& [word, value] : words) {
    if (found->is_string() && found->get_ref<const std::string&>() == word) {
      out = value;
      return;
    }
    if (!choices.empty()) choices += " or ";
    choices += fmt::format("\"{}\"", word);
  }
  reader.error(key, "must be " + choices);
}

}  // namespace mayfly::rollout
