// Who may speak to a node that has no keys: programs on this machine, not web pages that a browser
// on this machine happens to show. Pure.
//
// Host: a page of evil.example can make its own name resolve to 127.0.0.1 (DNS rebinding) and then
// reads replies as its own; the Host header still says evil.example. Origin: a foreign page can
// post to 127.0.0.1 without reading the reply; browsers then send its origin.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/http.h"

namespace mayfly {

struct GuardPolicy {
  std::vector<std::string> hosts;         // accepted besides loopback names
  std::vector<std::string> cors_origins;  // exact: "https://app.example"
};

// `host` is the header's value, port included. HTTP/1.0 requests without one pass.
Status check_host(const GuardPolicy& policy, std::string_view host);
// For control requests. `origin` is empty when the header is absent.
Status check_origin(const GuardPolicy& policy, std::string_view origin, std::string_view host);
// The Access-Control-Allow-Origin of a reply; empty: none.
std::string_view cors_origin(const GuardPolicy& policy, std::string_view origin);
// Lets pages of that origin read the reply and its headers; an empty one changes nothing.
void allow_origin(Headers& headers, std::string_view origin);

}  // namespace mayfly
