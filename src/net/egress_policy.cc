#include "net/egress_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/printable.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::string_view kHow = "the node's operator can allow it in [egress] allow";

std::unexpected<Error> forbidden(const std::string& what) {
  return fail(Code::PermissionDenied, fmt::format("{}; {}", what, kHow));
}

}  // namespace

Result<EgressPolicy::Place> EgressPolicy::parse_place(std::string_view text) {
  Place place;
  if (const auto network = parse_network(text)) {
    place.network = *network;
    return place;
  }
  // As a URL's authority, so that both are read alike.
  const bool has_path = text.find_first_of("/?#@") != std::string_view::npos;
  const auto url = parse_web_url(fmt::format("https://{}", text));
  if (has_path || !url) {
    return refuse(
        reason::kInvalidSetting,
        fmt::format("'{}' is no network (10.0.0.0/8, with nothing set behind the prefix), "
                    "address or host with or without :PORT",
                    printable(text, 80)));
  }
  const std::size_t colon = text.rfind(':');
  const std::size_t bracket = text.rfind(']');
  const bool names_port =
      colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket);
  place.port = names_port ? url->port : 0;
  if (const auto address = parse_ip(url->host)) {
    place.network = {.base = *address, .bits = 128};
  } else {
    place.host = url->host;
  }
  return place;
}

Result<EgressPolicy> EgressPolicy::parse(const std::vector<std::string>& allow) {
  EgressPolicy policy;
  for (const std::string& text : allow) policy.places_.push_back(TRY(parse_place(text)));
  return policy;
}

bool EgressPolicy::allows_host(const WebUrl& url) const {
  return std::ranges::any_of(places_, [&](const Place& place) {
    return !place.host.empty() && place.host == url.host &&
           (place.port == 0 || place.port == url.port);
  });
}

bool EgressPolicy::allows(const WebUrl& url, const IpAddress& address) const {
  return allows_host(url) || std::ranges::any_of(places_, [&](const Place& place) {
           return place.host.empty() && place.network.contains(address) &&
                  (place.port == 0 || place.port == url.port);
         });
}

bool EgressPolicy::allows_some_network(const WebUrl& url) const {
  return std::ranges::any_of(places_, [&](const Place& place) {
    return place.host.empty() && (place.port == 0 || place.port == url.port);
  });
}

Status EgressPolicy::check_url(const WebUrl& url) const {
  if (const auto address = parse_ip(url.host)) return check(url, *address, {});
  if (url.tls || allows_host(url) || allows_some_network(url)) return {};
  return forbidden(
      fmt::format("{} is plain http, which anybody on the way can read and change: "
                  "use https",
                  url.shown()));
}

Status EgressPolicy::check(const WebUrl& url, const IpAddress& address,
                           std::span<const IpAddress> own) const {
  if (allows(url, address)) return {};
  if (!url.tls) {
    return forbidden(
        fmt::format("{} is plain http, which anybody on the way can read and change: "
                    "use https",
                    url.shown()));
  }
  const std::string where = to_string(address);
  const std::string shown = where == url.host ? where : fmt::format("{} of {}", where, url.host);
  const auto is_own = [&](const IpAddress& asked) {
    return std::ranges::find(own, asked) != own.end();
  };
  const IpAddress meant = embedded_v4(address).value_or(address);
  const std::string_view purpose = special_purpose(address);
  if (!purpose.empty())
    return forbidden(fmt::format("the address {} is not on the internet ({})", shown, purpose));
  if (is_own(meant) || is_own(address))
    return forbidden(fmt::format("the address {} is the node's own", shown));
  return {};
}

}  // namespace mayfly
