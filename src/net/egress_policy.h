// Where requests of the node may go, which its users name: to anybody's https on the internet, and
// to what the operator allows. Pure: addresses are resolved by whoever asks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/web_url.h"
#include "net/ip_address.h"

namespace mayfly {

class EgressPolicy {
 public:
  // Nothing but what is anybody's.
  EgressPolicy() = default;
  // Each is a network ("10.0.0.0/8"), an address or a host name, the last two with a port
  // ("127.0.0.1:9000", "[::1]:9000", "hooks.internal:8080") or for every port. invalid_setting
  // names what is none of these.
  static Result<EgressPolicy> parse(const std::vector<std::string>& allow);

  // What can be said before the name is resolved: PermissionDenied where no address could make it
  // right.
  Status check_url(const WebUrl& url) const;
  // Of an address that the URL's host has now. `own` are the node's. PermissionDenied says why it
  // may not be asked, and which setting allows it.
  Status check(const WebUrl& url, const IpAddress& address, std::span<const IpAddress> own) const;

 private:
  struct Place {
    std::string host;  // a name; empty: `network`
    IpNetwork network;
    std::uint16_t port = 0;  // 0: every one
  };
  static Result<Place> parse_place(std::string_view text);
  bool allows_host(const WebUrl& url) const;
  bool allows(const WebUrl& url, const IpAddress& address) const;
  // Whether plain HTTP could be allowed to an address that is not known yet.
  bool allows_some_network(const WebUrl& url) const;

  std::vector<Place> places_;
};

}  // namespace mayfly
