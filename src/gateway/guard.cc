#include "gateway/guard.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/reason.h"

namespace mayfly {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return out;
}

// "[::1]:80" → "[::1]", "localhost:80" → "localhost"
std::string_view without_port(std::string_view host) {
  const std::size_t bracket = host.rfind(']');
  const std::size_t colon = host.rfind(':');
  if (colon == std::string_view::npos || (bracket != std::string_view::npos && colon < bracket))
    return host;
  return host.substr(0, colon);
}

bool all_digits_or_dots(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789.") == std::string_view::npos;
}

bool is_loopback(std::string_view name) {
  return name == "localhost" || name.ends_with(".localhost") || name == "[::1]" ||
         (name.starts_with("127.") && all_digits_or_dots(name));
}

std::string shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 100)) out += c >= ' ' && c <= '~' ? c : '?';
  return out;
}

bool contains(const std::vector<std::string>& list, std::string_view item) {
  return std::ranges::find(list, item) != list.end();
}

}  // namespace

Status check_host(const GuardPolicy& policy, std::string_view host) {
  if (host.empty()) return {};
  const std::string name = lower(without_port(host));
  if (is_loopback(name) || contains(policy.hosts, name) || contains(policy.hosts, host)) return {};
  return refuse(reason::kForbiddenHost,
                fmt::format("Host '{}' is neither loopback nor configured; add it to server.hosts",
                            shown(host)));
}

Status check_origin(const GuardPolicy& policy, std::string_view origin, std::string_view host) {
  if (origin.empty() || contains(policy.cors_origins, origin)) return {};
  const std::size_t scheme = origin.find("://");
  const std::string_view authority =
      scheme == std::string_view::npos ? std::string_view() : origin.substr(scheme + 3);
  // The node's own pages: same host and port.
  if (!authority.empty() && lower(authority) == lower(host)) return {};
  return refuse(
      reason::kForbiddenOrigin,
      fmt::format(
          "control requests from the web page '{}' are refused; add it to server.cors_origins",
          shown(origin)));
}

std::string_view cors_origin(const GuardPolicy& policy, std::string_view origin) {
  return !origin.empty() && contains(policy.cors_origins, origin) ? origin : std::string_view();
}

void allow_origin(Headers& headers, std::string_view origin) {
  if (origin.empty()) return;
  headers.add("Access-Control-Allow-Origin", origin);
  headers.add("Access-Control-Expose-Headers",
              "Mayfly-Invocation, Mayfly-Start, Mayfly-Version, Mayfly-Batch, Mayfly-Cache, "
              "Mayfly-Event, Mayfly-Event-State, Mayfly-Event-Attempts, Location, Server-Timing, "
              "X-Request-Id, "
              "Retry-After, Inference-Header-Content-Length, Upload-Offset");
  headers.add("Vary", "Origin");
}

}  // namespace mayfly
