// An address on the web that a user named, for requests that the node makes: checked as far as text
// can be. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace mayfly {

inline constexpr std::size_t kLongestUrl = 2048;

struct WebUrl {
  bool tls = true;
  std::string host;  // in lower case, without the brackets of an IPv6 address
  std::uint16_t port = 443;
  std::string target = "/";  // path and query
  bool operator==(const WebUrl&) const = default;

  // "hooks.example", "hooks.example:8443", "[2001:db8::1]": a Host header.
  std::string authority() const;
  // For people who may not know what the query holds: without it.
  std::string shown() const;
};

// http:// or https:// with host, port, path and query; without user, password and fragment, and in
// characters that need no escape. A host that ends in a number is an address, in the usual form.
// invalid_setting says what is wrong.
Result<WebUrl> parse_web_url(std::string_view text);

}  // namespace mayfly
