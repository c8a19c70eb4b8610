#include "core/web_url.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "core/printable.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kLongestHost = 253;  // RFC 1035 §2.3.4
constexpr std::size_t kLongestLabel = 63;
constexpr std::size_t kShownUrl = 100;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

char lowered(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

bool is_label(std::string_view label) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-' || c == '_';
  };
  return !label.empty() && label.size() <= kLongestLabel && std::ranges::all_of(label, fits);
}

bool is_address(int family, const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  return ::inet_pton(family, text.c_str(), bytes.data()) == 1;
}

// Resolvers also take "127.1", "0x7f000001" and "2130706433" for addresses. None of them is one
// that a person would write.
bool ends_in_number(std::string_view host) {
  const std::string_view last = host.substr(host.rfind('.') + 1);
  return std::ranges::all_of(last, is_digit) || last.starts_with("0x");
}

bool is_host(const std::string& host) {
  std::string_view rest = host;
  if (rest.ends_with('.')) rest.remove_suffix(1);  // a name that is complete
  if (rest.empty() || rest.size() > kLongestHost) return false;
  if (ends_in_number(rest)) return is_address(AF_INET, host);
  for (std::size_t begin = 0; begin <= rest.size();) {
    const std::size_t end = std::min(rest.find('.', begin), rest.size());
    if (!is_label(rest.substr(begin, end - begin))) return false;
    begin = end + 1;
  }
  return true;
}

// Of "host", "host:port" or "[address]:port"; what is wrong, or nothing.
std::string_view read_authority(std::string_view authority, WebUrl& url) {
  std::string_view port;
  const bool bracketed = authority.starts_with('[');
  if (bracketed) {
    const std::size_t end = authority.find(']');
    if (end == std::string_view::npos) return "a bracket is missing";
    url.host = authority.substr(1, end - 1);
    port = authority.substr(end + 1);
  } else {
    const std::size_t colon = std::min(authority.find(':'), authority.size());
    url.host = authority.substr(0, colon);
    port = authority.substr(colon);
  }
  std::ranges::transform(url.host, url.host.begin(), lowered);
  if (bracketed ? !is_address(AF_INET6, url.host) : !is_host(url.host))
    return "its host is neither a name nor an address";
  if (port.empty()) return "";
  const char* end = port.data() + port.size();
  const auto [stop, error] = std::from_chars(port.data() + 1, end, url.port);
  const bool whole = port[0] == ':' && error == std::errc() && stop == end && url.port != 0;
  return whole ? "" : "its port is no number from 1 to 65535";
}

}  // namespace

std::string WebUrl::authority() const {
  const std::string name = host.contains(':') ? fmt::format("[{}]", host) : host;
  return port == (tls ? 443 : 80) ? name : fmt::format("{}:{}", name, port);
}

std::string WebUrl::shown() const {
  const std::string_view path = std::string_view(target).substr(0, target.find('?'));
  return fmt::format("{}://{}{}", tls ? "https" : "http", authority(), path);
}

Result<WebUrl> parse_web_url(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return refuse(reason::kInvalidSetting, fmt::format("'{}' is not a URL that can be asked: {}",
                                                       printable(text, kShownUrl), why));
  };
  if (text.size() > kLongestUrl) return bad(fmt::format("it is longer than {}", kLongestUrl));
  WebUrl url;
  if (text.starts_with("http://")) {
    url.tls = false;
    url.port = 80;
  } else if (!text.starts_with("https://")) {
    return bad("it must begin with https:// or http://");
  }
  const auto plain = [](char c) { return c > ' ' && c <= '~' && c != '\\'; };
  if (!std::ranges::all_of(text, plain)) return bad("it has characters that need an escape");
  if (text.contains('#')) return bad("it has a fragment");
  std::string_view rest = text.substr(text.find("//") + 2);
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?"));
  rest.remove_prefix(authority.size());
  if (authority.contains('@'))
    return bad("it names a user: a password would stand in the settings");
  if (const std::string_view why = read_authority(authority, url); !why.empty()) return bad(why);
  url.target = rest.starts_with('/') ? std::string(rest) : fmt::format("/{}", rest);
  return url;
}

}  // namespace mayfly
