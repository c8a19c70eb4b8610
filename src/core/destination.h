// Whom to tell how an event ended: a URL, or another function of the project. Pure.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "core/web_url.h"

namespace mayfly {

struct Destination {
  std::string function;  // as its project calls it; empty: it is a URL
  WebUrl url;

  bool is_function() const { return !function.empty(); }
  // What answers there, whatever its paths: "https://hooks.example", "function:next".
  std::string host() const;
  // Without what only its owner may know.
  std::string shown() const;
};

// "https://hooks.example/in?x=1" or "function:next"; invalid_setting.
Result<Destination> parse_destination(std::string_view text);

}  // namespace mayfly
