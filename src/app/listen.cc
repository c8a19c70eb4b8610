#include "app/listen.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>
#include <string_view>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::string_view kUnix = "unix:";

bool is_ipv6(const std::string& address) { return address.contains(':'); }

bool is_numeric(const std::string& address) {
  in6_addr unused{};
  return ::inet_pton(is_ipv6(address) ? AF_INET6 : AF_INET, address.c_str(), &unused) == 1;
}

}  // namespace

Result<ListenAddress> parse_listen(const std::string& text, std::string_view setting) {
  ListenAddress where;
  if (text.starts_with(kUnix)) {
    where.socket = text.substr(kUnix.size());
    if (where.socket.is_absolute()) return where;
    return refuse(reason::kInvalidSetting,
                  fmt::format("{}: '{}' needs an absolute path", setting, text));
  }
  const std::size_t colon = text.rfind(':');
  if (colon != std::string::npos) {
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + colon + 1, end, where.port);
    if (error == std::errc() && rest == end) where.address = text.substr(0, colon);
  }
  if (where.address == "localhost") where.address = "127.0.0.1";
  if (where.address.starts_with('[') && where.address.ends_with(']'))
    where.address = where.address.substr(1, where.address.size() - 2);
  if (is_numeric(where.address)) return where;
  return refuse(reason::kInvalidSetting,
                fmt::format("{}: '{}' is neither ADDRESS:PORT with a numeric address nor unix:PATH",
                            setting, text));
}

Status check_loopback(const ListenAddress& where, std::string_view setting) {
  if (!where.socket.empty() || where.address == "::1" || where.address.starts_with("127."))
    return {};
  return refuse(
      reason::kInvalidSetting,
      fmt::format(
          "{}: {} is reachable from other machines, and this node has no keys: anybody could "
          "deploy code. Start it on 127.0.0.1, make a key with `mayfly key create`, and "
          "then let it listen there",
          setting, where.address));
}

Result<std::optional<ListenAddress>> parse_grpc_listen(const std::string& text) {
  constexpr std::string_view kSetting = "server.grpc_listen";
  if (text.empty() || text == "off") return std::nullopt;
  ListenAddress where = TRY(parse_listen(text, kSetting));
  if (where.socket.empty()) return where;
  return refuse(
      reason::kInvalidSetting,
      fmt::format("{}: gRPC is served at an address and port, not at '{}'", kSetting, text));
}

std::string host_and_port(const ListenAddress& address) {
  return is_ipv6(address.address) ? fmt::format("[{}]:{}", address.address, address.port)
                                  : fmt::format("{}:{}", address.address, address.port);
}

Result<std::string> listen_on(HttpServer& server, const ListenAddress& where, ListenScheme scheme) {
  if (!where.socket.empty()) {
    TRY(server.listen_unix(where.socket));
    return fmt::format("{}{}", kUnix, where.socket.native());
  }
  const auto listening = server.listen(where.address, where.port);
  if (!listening) {
    return std::unexpected(listening.error().in(
        "server.listen (choose another address with --listen or MAYFLY_LISTEN)"));
  }
  ListenAddress taken = where;
  taken.port = *listening;
  return fmt::format("{}://{}", scheme == ListenScheme::Https ? "https" : "http",
                     host_and_port(taken));
}

}  // namespace mayfly
