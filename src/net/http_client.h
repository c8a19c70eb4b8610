// A blocking HTTP/1.1 client for the command line and for tests; never used on a loop thread. Keeps
// its connection between requests, and opens a new one when the server has closed it meanwhile.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "base/tcp.h"
#include "net/http.h"
#include "net/http_parser.h"
#include "net/tls.h"
#include "net/transport.h"

namespace mayfly {

// "http[s]://host[:port][/prefix]", or "unix:/path/of/socket".
struct Url {
  bool tls = false;
  std::string host;  // without the brackets of an IPv6 address
  std::uint16_t port = 80;
  std::string prefix;       // "" or "/something", without a final slash
  std::string unix_socket;  // when set, the rest is empty
  std::string text;         // as it was given
};
Result<Url> parse_url(std::string_view text);

// A body made while it is sent. `read` fills some of the memory it is given; 0 is the end. Without
// a length it is sent chunked.
struct BodySource {
  std::optional<std::uint64_t> length;
  std::move_only_function<Result<std::size_t>(std::span<std::byte>)> read;
};

struct ClientRequest {
  std::string method = "GET";
  std::string target = "/";  // appended to the URL's prefix
  Headers headers = {};
  std::variant<std::string, BodySource> body = {};
  // Receives the body of a 2xx reply piece by piece; an Error ends the request with it. Other
  // bodies, and all without a sink, are collected.
  std::move_only_function<Status(std::string_view)> sink = {};
  // Told status and headers before the first piece of the body.
  std::move_only_function<void(int status, const Headers& headers)> on_head = {};
  // Instead of the client's, for this request.
  std::optional<TimePoint> deadline = {};
};

struct ClientResponse {
  int status = 0;
  Headers headers;
  std::string body;
};

class HttpClient {
 public:
  struct Options {
    Duration connect_timeout = std::chrono::seconds(5);
    Duration stall_timeout = std::chrono::seconds(120);  // without one byte sent or received
    // The same between the request's last byte and the reply's first: the server's work.
    Duration reply_timeout = std::chrono::seconds(120);
    Bytes collected_limit = mib(256);
    TlsClientFiles tls;                    // for https; without a CA the system's store is trusted
    std::optional<TlsContext> trust = {};  // instead of `tls`
    // Where the URL's host is, for who has looked already: then nothing is resolved.
    std::vector<SocketAddress> addresses = {};
    std::optional<TimePoint> deadline = {};   // of SystemClock; whatever is under way ends then
    const std::atomic<bool>* stop = nullptr;  // ends it as soon as it is true; outlives the client
    std::string peer = "the node";            // who is asked, in messages
  };

  explicit HttpClient(Url url);
  HttpClient(Url url, Options options);

  // A reply of any status is a value. Unavailable: no connection; DeadlineExceeded: a stall;
  // Cancelled: the server ended the connection early; Unauthenticated: its certificate is not
  // trusted, or it does not trust ours. A request whose kept connection turns out to
  // be closed is sent once more, unless its source has been read.
  Result<ClientResponse> send(ClientRequest request);

  const Url& url() const { return url_; }

 private:
  Status connect();
  Status shake_hands();
  Status prepare_tls();
  Result<Fd> connect_tcp();
  Result<Fd> connect_unix();
  Result<ClientResponse> exchange(ClientRequest& request);
  std::string encode_head(const ClientRequest& request) const;
  Status send_request(ClientRequest& request);
  Status send_source(BodySource& source);
  Status send_all(std::string_view bytes);
  Result<ResponseHead> read_head();
  Status read_body(const ResponseHead& head, ClientRequest& request, ClientResponse& response);
  Status read_chunked(const std::function<Status(std::string_view)>& take);
  // Waits for more input; false at the end of the stream.
  Result<bool> fill() { return fill(options_.stall_timeout); }
  Result<bool> fill(Duration patience);
  // What the last call of transport_ waits for, and perhaps input too.
  enum class Also : std::uint8_t { Nothing, Input };
  Status wait(Duration patience, Also also = Also::Nothing);
  Status check_time() const;
  Duration left_of(Duration patience) const;
  std::string advice(std::string_view text) const;
  Error cannot_reach(std::string_view why) const;
  Error not_trusted(std::string_view why) const;
  std::unexpected<Error> ended_early() const;

  Url url_;
  Options options_;
  std::optional<TlsContext> tls_;       // once it has been needed
  std::optional<Transport> transport_;  // while there is a connection
  std::string buffer_;                  // received and not yet used
};

}  // namespace mayfly
