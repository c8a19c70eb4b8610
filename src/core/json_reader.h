// Strict reading of JSON objects into structs: every key is declared once, wrong types are errors
// that name the key, and what was not declared is an error too.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"

namespace mayfly {

using Json = nlohmann::ordered_json;

// Text → JSON; nesting is bounded before anything recursive sees it.
Result<Json> parse_json(std::string_view text, std::string_view what);

// Reads one object. Errors are collected: the first one wins and finish() returns it.
class JsonReader {
 public:
  // `json` outlives me; `what` begins every message ("mayfly.toml"); `reason` is the slug of the
  // errors.
  JsonReader(const Json& json, std::string_view what, std::string_view reason);

  // Each leaves `out` as it is when the key is absent.
  JsonReader& text(std::string_view key, std::string& out);
  JsonReader& integer(std::string_view key, std::uint64_t& out, std::uint64_t low,
                      std::uint64_t high);
  JsonReader& integer(std::string_view key, std::uint32_t& out, std::uint32_t low,
                      std::uint32_t high);
  JsonReader& boolean(std::string_view key, bool& out);
  JsonReader& duration(std::string_view key, Duration& out, Duration low, Duration high);  // "30s"
  JsonReader& bytes(std::string_view key, Bytes& out, Bytes low, Bytes high);  // "512MiB"
  // The raw value, for nested objects and arrays; nullptr when absent.
  const Json* value(std::string_view key);

  // A key that people look for in vain, and why there is none.
  void unsupported(std::string_view key, std::string_view why);
  void error(std::string_view key, std::string_view complaint);
  // The first error, or one for the first undeclared key.
  Status finish();

 private:
  const Json* find(std::string_view key);

  const Json& json_;
  std::string what_;
  std::string_view reason_;
  std::vector<std::string> known_;
  Status status_;
};

}  // namespace mayfly
