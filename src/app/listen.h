// Where a node listens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "net/http_server.h"

namespace mayfly {

struct ListenAddress {
  std::string address;  // numeric
  std::uint16_t port = 0;
  Path socket;  // instead of them
};

// "127.0.0.1:8080", "[::1]:8080", "localhost:8080", "0.0.0.0:80", "unix:/run/mayfly/socket".
// `setting` is what messages begin with.
Result<ListenAddress> parse_listen(const std::string& text,
                                   std::string_view setting = "server.listen");
// An error for what other machines could reach.
Status check_loopback(const ListenAddress& where, std::string_view setting);
// Where gRPC is listened for; nullopt: nowhere ("off", or empty).
Result<std::optional<ListenAddress>> parse_grpc_listen(const std::string& text);

// What the listener speaks; a socket file speaks plain HTTP in any case.
enum class ListenScheme : std::uint8_t { Http, Https };

// The URL under which clients find it.
Result<std::string> listen_on(HttpServer& server, const ListenAddress& address,
                              ListenScheme scheme = ListenScheme::Http);
// "127.0.0.1:8081", "[::1]:8081": as it stands in URLs, and as gRPC writes it.
std::string host_and_port(const ListenAddress& address);

}  // namespace mayfly
