// IP addresses as values: what they look like, and what they are for. Pure.
#pragma once

#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mayfly {

// IPv6; IPv4 as the address that IPv6 maps it to (::ffff:a.b.c.d), so that each is written one way.
struct IpAddress {
  std::array<std::uint8_t, 16> bytes{};
  auto operator<=>(const IpAddress&) const = default;

  bool is_v4() const;
};

std::optional<IpAddress> parse_ip(std::string_view text);  // "10.0.0.1", "2001:db8::1"; no zone
std::optional<IpAddress> ip_of(const sockaddr& address);   // nullopt: another family
std::string to_string(const IpAddress& address);

// All addresses that share the first `bits`.
struct IpNetwork {
  IpAddress base;
  unsigned bits = 128;  // of the 128; of IPv4 from 96 on

  bool contains(const IpAddress& address) const;
};

// "10.0.0.0/8", "fd00::/8", or an address, which is a network of one. nullopt: neither, or bits
// beyond the prefix are set.
std::optional<IpNetwork> parse_network(std::string_view text);

// What the address is reserved for: "loopback", "link-local", "private" …; empty: none of these, it
// is anybody's on the internet. An address that stands for one of IPv4 (NAT64, 6to4) is for what
// that is for. IANA's registries of special-purpose addresses, RFC 6890 and what came since.
std::string_view special_purpose(const IpAddress& address);
// The IPv4 address that it stands for.
std::optional<IpAddress> embedded_v4(const IpAddress& address);

}  // namespace mayfly
