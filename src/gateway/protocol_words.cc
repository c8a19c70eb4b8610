#include "gateway/protocol_words.h"

#include <fmt/format.h>

#include <utility>

#include "core/reason.h"

namespace mayfly {

Error in_protocol_words(Error error, std::string_view name, std::string_view version) {
  if (error.reason == reason::kUnknownFunction) {
    error.message = fmt::format("Request for unknown model: '{}' is not found", name);
  } else if (error.reason == reason::kUnknownVersion && !version.empty()) {
    error.message =
        fmt::format("Request for unknown model: '{}' version {} is not found", name, version);
  }
  return error;
}

Error in_tensorflow_words(Error error, std::string_view name, std::string_view version) {
  const bool is_unknown =
      error.reason == reason::kUnknownFunction || error.reason == reason::kUnknownVersion;
  if (is_unknown && !version.empty()) {
    error.message = fmt::format("Servable not found for request: Specific({}, {})", name, version);
  } else if (error.reason == reason::kUnknownFunction) {
    error.message = fmt::format("Servable not found for request: Latest({})", name);
  }
  return error;
}

}  // namespace mayfly
