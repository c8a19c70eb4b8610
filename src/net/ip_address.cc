#include "net/ip_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <span>

#include "base/check.h"

namespace mayfly {
namespace {

constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr unsigned kMappedBits = 96;
constexpr std::size_t kLongestAddress = 45;  // INET6_ADDRSTRLEN, without its end

struct Reserved {
  IpNetwork network;
  std::string_view purpose;
};

Reserved reserved(std::string_view network, std::string_view purpose) {
  const auto parsed = parse_network(network);
  CHECK(parsed.has_value());
  return {*parsed, purpose};
}

const std::array<Reserved, 27>& reserved_networks() {
  static const std::array<Reserved, 27> networks = {
      reserved("0.0.0.0/8", "this host"),
      reserved("10.0.0.0/8", "private"),
      reserved("100.64.0.0/10", "shared by a carrier's customers"),
      reserved("127.0.0.0/8", "loopback"),
      reserved("169.254.0.0/16", "link-local"),
      reserved("172.16.0.0/12", "private"),
      reserved("192.0.0.0/24", "protocols"),
      reserved("192.0.2.0/24", "documentation"),
      reserved("192.88.99.0/24", "6to4 relays"),
      reserved("192.168.0.0/16", "private"),
      reserved("198.18.0.0/15", "benchmarks"),
      reserved("198.51.100.0/24", "documentation"),
      reserved("203.0.113.0/24", "documentation"),
      reserved("224.0.0.0/4", "multicast"),
      reserved("240.0.0.0/4", "reserved or broadcast"),
      reserved("::/128", "this host"),
      reserved("::1/128", "loopback"),
      reserved("64:ff9b:1::/48", "translation in a network"),
      reserved("100::/64", "discarding"),
      reserved("2001::/23", "protocols or tunnels"),
      reserved("2001:db8::/32", "documentation"),
      reserved("3fff::/20", "documentation"),
      reserved("5f00::/16", "segment routing"),
      reserved("fc00::/7", "private"),
      reserved("fe80::/10", "link-local"),
      reserved("fec0::/10", "private"),
      reserved("ff00::/8", "multicast"),
  };
  return networks;
}

IpAddress mapped(std::span<const std::uint8_t, 4> v4) {
  IpAddress address;
  std::ranges::copy(kMapped, address.bytes.begin());
  std::ranges::copy(v4, address.bytes.begin() + kMapped.size());
  return address;
}

const IpNetwork& nat64() {
  static const IpNetwork network = *parse_network("64:ff9b::/96");  // RFC 6052
  return network;
}

const IpNetwork& six_to_four() {
  static const IpNetwork network = *parse_network("2002::/16");  // RFC 3056
  return network;
}

const IpNetwork& global_unicast() {
  static const IpNetwork network = *parse_network("2000::/3");
  return network;
}

}  // namespace

bool IpAddress::is_v4() const { return std::ranges::equal(kMapped, std::span(bytes).first<12>()); }

std::optional<IpAddress> parse_ip(std::string_view text) {
  if (text.size() > kLongestAddress) return std::nullopt;
  const std::string ended(text);
  std::array<std::uint8_t, 4> v4{};
  if (::inet_pton(AF_INET, ended.c_str(), v4.data()) == 1) return mapped(v4);
  IpAddress address;
  if (::inet_pton(AF_INET6, ended.c_str(), address.bytes.data()) == 1) return address;
  return std::nullopt;
}

std::optional<IpAddress> ip_of(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);
    std::array<std::uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &v4.sin_addr, bytes.size());
    return mapped(bytes);
  }
  if (address.sa_family != AF_INET6) return std::nullopt;
  sockaddr_in6 v6{};
  std::memcpy(&v6, &address, sizeof v6);
  IpAddress ip;
  std::memcpy(ip.bytes.data(), &v6.sin6_addr, ip.bytes.size());
  return ip;
}

std::string to_string(const IpAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool v4 = address.is_v4();
  const std::uint8_t* bytes = address.bytes.data() + (v4 ? kMapped.size() : 0);
  CHECK(::inet_ntop(v4 ? AF_INET : AF_INET6, bytes, text.data(), text.size()) != nullptr);
  return text.data();
}

bool IpNetwork::contains(const IpAddress& address) const {
  const std::size_t whole = bits / 8;
  if (!std::equal(base.bytes.begin(), base.bytes.begin() + static_cast<std::ptrdiff_t>(whole),
                  address.bytes.begin())) {
    return false;
  }
  const unsigned left = bits % 8;
  if (left == 0) return true;
  const unsigned mask = 0xff00U >> left & 0xffU;
  return ((static_cast<unsigned>(base.bytes[whole]) ^ address.bytes[whole]) & mask) == 0;
}

std::optional<IpNetwork> parse_network(std::string_view text) {
  const std::size_t slash = std::min(text.find('/'), text.size());
  const auto base = parse_ip(text.substr(0, slash));
  if (!base) return std::nullopt;
  const unsigned before = base->is_v4() ? kMappedBits : 0;
  IpNetwork network{.base = *base, .bits = 128};
  if (slash < text.size()) {
    const std::string_view digits = text.substr(slash + 1);
    unsigned bits = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
    if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
    if (bits > 128 - before) return std::nullopt;
    network.bits = before + bits;
  }
  for (std::size_t bit = network.bits; bit < 128; ++bit) {
    if ((base->bytes[bit / 8] & 0x80U >> bit % 8) != 0) return std::nullopt;
  }
  return network;
}

std::optional<IpAddress> embedded_v4(const IpAddress& address) {
  const auto at = [&](std::size_t begin) {
    std::array<std::uint8_t, 4> v4{};
    std::copy_n(address.bytes.begin() + static_cast<std::ptrdiff_t>(begin), v4.size(), v4.begin());
    return mapped(v4);
  };
  if (nat64().contains(address)) return at(12);
  if (six_to_four().contains(address)) return at(2);
  return std::nullopt;
}

std::string_view special_purpose(const IpAddress& address) {
  if (const auto v4 = embedded_v4(address)) return special_purpose(*v4);
  for (const Reserved& known : reserved_networks()) {
    if (known.network.contains(address)) return known.purpose;
  }
  return address.is_v4() || global_unicast().contains(address) ? "" : "nothing that is routed";
}

}  // namespace mayfly
