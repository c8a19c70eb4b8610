// An HTTP/1.1 server on one Loop: accepts connections, reads requests, runs the handler for each,
// one after another on a connection (pipelined requests are answered in order), and sends the
// replies.
//
// Per request it makes one recv and one sendmsg; descriptors are registered with epoll once per
// connection, edge-triggered. RFC 9110/9112 for HTTP/1.0 and 1.1, and TLS where set_tls() was
// called.
//
// Nobody holds a connection for longer than it is of use: each wait for a client has a limit
// (HttpServerOptions), and when there are as many connections as may be, the one that has been
// waiting for a request the longest makes room for the next.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/loop.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "net/exchange.h"
#include "net/tls.h"

namespace mayfly {

struct HttpServerOptions {
  std::size_t max_header_bytes = 16'384;      // 431 past it
  std::size_t max_connections = 10'000;       // past it idle ones close, and without any: 503
  std::size_t max_per_address = 5'000;        // 503 past it; Unix sockets are not counted
  std::uint64_t unread_body_limit = 262'144;  // skipped to keep a connection; else it closes
  // For the TLS handshake and the first head together; then from each head's first byte to its
  // last. 408 past it.
  Duration header_timeout = std::chrono::seconds(10);
  Duration idle_timeout = std::chrono::seconds(75);   // between requests
  Duration body_timeout = std::chrono::seconds(30);   // the patience for a body (net/pace.h)
  Duration write_timeout = std::chrono::seconds(30);  // the same for taking a reply
  std::uint64_t min_rate = 256;                       // bytes a second that give patience back
  // Whom Unix sockets serve (SO_PEERCRED); others are cut off. Without: whoever may open the file.
  std::optional<uid_t> only_user{};
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

  // From now on TCP connections speak TLS and nothing else; those that are open stay as they are,
  // with the certificate that they began with.
  void set_tls(TlsContext context);

  // Stops accepting, closes idle connections, and lets accepted requests finish with `Connection:
  // close`. What is not done by the deadline is disconnected. Ends when the last connection has.
  Task<void> close(Duration timeout);

  std::size_t connections() const;

  struct Shared;
  struct Newcomer;

 private:
  class Listener;
  void take(Newcomer newcomer);
  static Task<void> serve(Shared& shared, Newcomer newcomer);

  std::unique_ptr<Shared> shared_;
  std::vector<std::unique_ptr<Listener>> listeners_;
};

}  // namespace mayfly
