// An HTTP/1.1 server on one Loop: accepts connections, reads requests, runs the handler for each,
// one after another on a connection (pipelined requests are answered in order), and sends the
// replies.
//
// Per request it makes one recv and one sendmsg; descriptors are registered with epoll once per
// connection, edge-triggered. RFC 9110/9112 for HTTP/1.0 and 1.1; no TLS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "async/loop.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "net/exchange.h"

namespace mayfly {

struct HttpServerOptions {
  std::size_t max_header_bytes = 16'384;      // 431 past it
  std::size_t max_connections = 10'000;       // 503 past it
  std::uint64_t unread_body_limit = 262'144;  // skipped to keep a connection; else it closes
  Duration header_timeout = std::chrono::seconds(10);  // from a head's first byte to its last
  Duration idle_timeout = std::chrono::seconds(75);    // between requests
  Duration body_timeout = std::chrono::seconds(30);    // without one byte of the body
  Duration write_timeout = std::chrono::seconds(30);   // without one byte taken
};

class HttpServer {
 public:
  // `loop` outlives the server. The handler's tasks end soon after disconnected() fires: closing
  // waits for them.
  HttpServer(Loop& loop, HttpServerOptions options, Handler handler);
  // No connection is left: close() has ended, or the loop was never run.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Starts accepting at a numeric IPv4 or IPv6 address; port 0 takes a free one. The port taken.
  Result<std::uint16_t> listen(std::string_view address, std::uint16_t port);
  // At a socket file that only its owner may use; one that a dead server left is replaced. It goes
  // with the listener.
  Status listen_unix(const std::filesystem::path& path);

  // Stops accepting, closes idle connections, and lets accepted requests finish with `Connection:
  // close`. What is not done by the deadline is disconnected. Ends when the last connection has.
  Task<void> close(Duration timeout);

  std::size_t connections() const;

  struct Shared;

 private:
  class Listener;
  void take(Fd socket, std::string peer);
  static Task<void> serve(Shared& shared, Fd socket, std::string peer);

  std::unique_ptr<Shared> shared_;
  std::vector<std::unique_ptr<Listener>> listeners_;
};

}  // namespace mayfly
