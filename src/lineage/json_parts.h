// Reading JSON that may hold anything under every key: what is not there, or of another type, is
// nothing.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/json_reader.h"

namespace mayfly {

inline const Json& nothing() {
  static const Json kNothing;
  return kNothing;
}

// null where there is none.
inline const Json& at(const Json& json, std::string_view key) {
  if (!json.is_object()) return nothing();
  const auto found = json.find(key);
  return found == json.end() ? nothing() : *found;
}

inline std::string text_at(const Json& json, std::string_view key) {
  const Json& found = at(json, key);
  return found.is_string() ? found.get<std::string>() : std::string();
}

inline std::optional<double> number_at(const Json& json, std::string_view key) {
  const Json& found = at(json, key);
  if (!found.is_number()) return std::nullopt;
  const auto value = found.get<double>();
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

inline std::uint64_t count_at(const Json& json, std::string_view key) {
  const Json& found = at(json, key);
  const bool counts =
      found.is_number_unsigned() || (found.is_number_integer() && found.get<std::int64_t>() >= 0);
  return counts ? found.get<std::uint64_t>() : 0;
}

inline bool flag_at(const Json& json, std::string_view key) {
  const Json& found = at(json, key);
  return found.is_boolean() && found.get<bool>();
}

inline Json object_in(const std::string& text) {
  Json json = Json::parse(text, nullptr, false);
  return json.is_object() ? json : Json::object();
}

}  // namespace mayfly
