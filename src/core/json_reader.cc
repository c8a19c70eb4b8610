#include "core/json_reader.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxDepth = 64;

// nlohmann's parser is iterative, its destructor and our readers are not.
bool nested_too_deep(std::string_view text) {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) return true;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return false;
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view what) {
  if (nested_too_deep(text)) {
    return refuse(reason::kBadRequest,
                  fmt::format("{}: nested more than {} levels deep", what, kMaxDepth));
  }
  try {
    return Json::parse(text);
  } catch (const Json::exception& e) {
    return refuse(reason::kBadRequest, fmt::format("{}: not JSON: {}", what, e.what()));
  }
}

JsonReader::JsonReader(const Json& json, std::string_view what, std::string_view reason)
    : json_(json), what_(what), reason_(reason) {
  if (!json.is_object()) status_ = refuse(reason_, fmt::format("{}: must be an object", what_));
}

const Json* JsonReader::find(std::string_view key) {
  known_.emplace_back(key);
  if (!status_.has_value()) return nullptr;
  const auto found = json_.find(key);
  return found == json_.end() ? nullptr : &*found;
}

void JsonReader::unsupported(std::string_view key, std::string_view why) {
  if (status_.has_value() && json_.contains(key))
    error(key, fmt::format("is not supported: {}", why));
}

void JsonReader::error(std::string_view key, std::string_view complaint) {
  if (status_.has_value())
    status_ = refuse(reason_, fmt::format("{}: '{}' {}", what_, key, complaint));
}

JsonReader& JsonReader::text(std::string_view key, std::string& out) {
  const Json* found = find(key);
  if (found == nullptr) return *this;
  if (found->is_string()) {
    out = found->get<std::string>();
  } else {
    error(key, "must be a text");
  }
  return *this;
}

JsonReader& JsonReader::integer(std::string_view key, std::uint64_t& out, std::uint64_t low,
                                std::uint64_t high) {
  const Json* found = find(key);
  if (found == nullptr) return *this;
  const bool fits = found->is_number_integer() &&
                    (found->is_number_unsigned() || found->get<std::int64_t>() >= 0);
  const std::uint64_t number = fits ? found->get<std::uint64_t>() : 0;
  if (fits && number >= low && number <= high) {
    out = number;
  } else {
    error(key, fmt::format("must be a whole number from {} to {}", low, high));
  }
  return *this;
}

JsonReader& JsonReader::integer(std::string_view key, std::uint32_t& out, std::uint32_t low,
                                std::uint32_t high) {
  std::uint64_t wide = out;
  integer(key, wide, low, high);
  out = static_cast<std::uint32_t>(wide);
  return *this;
}

JsonReader& JsonReader::boolean(std::string_view key, bool& out) {
  const Json* found = find(key);
  if (found == nullptr) return *this;
  if (found->is_boolean()) {
    out = found->get<bool>();
  } else {
    error(key, "must be true or false");
  }
  return *this;
}

JsonReader& JsonReader::duration(std::string_view key, Duration& out, Duration low, Duration high) {
  const Json* found = find(key);
  if (found == nullptr) return *this;
  if (!found->is_string()) {
    error(key, "must be a text: write a whole number and a unit, as in 250ms");
    return *this;
  }
  const std::string written = found->get<std::string>();
  if (written.empty()) return *this;
  const auto parsed = parse_duration(written);
  if (!parsed) {
    error(key, parsed.error().message);
  } else if (*parsed < low || *parsed > high) {
    error(key, fmt::format("must be from {} to {}", to_string(low), to_string(high)));
  } else {
    out = *parsed;
  }
  return *this;
}

JsonReader& JsonReader::bytes(std::string_view key, Bytes& out, Bytes low, Bytes high) {
  const Json* found = find(key);
  if (found == nullptr) return *this;
  if (!found->is_string()) {
    error(key, "must be a text: write a whole number and a unit, as in 512MiB");
    return *this;
  }
  const std::string written = found->get<std::string>();
  if (written.empty()) return *this;
  const auto parsed = parse_bytes(written);
  if (!parsed) {
    error(key, parsed.error().message);
  } else if (*parsed < low || *parsed > high) {
    error(key, fmt::format("must be from {} to {}", to_string(low), to_string(high)));
  } else {
    out = *parsed;
  }
  return *this;
}

const Json* JsonReader::value(std::string_view key) { return find(key); }

Status JsonReader::finish() {
  if (!status_.has_value()) return status_;
  for (const auto& [key, unused] : json_.items()) {
    if (std::ranges::find(known_, key) == known_.end()) {
      return refuse(reason_, fmt::format("{}: unknown key '{}'; known here: {}", what_, key,
                                         fmt::join(known_, ", ")));
    }
  }
  return {};
}

}  // namespace mayfly
