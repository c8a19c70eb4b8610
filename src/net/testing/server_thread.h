// A server on a thread of its own, for tests that talk to it over real sockets.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <thread>

#include "async/loop.h"
#include "base/fd.h"
#include "net/http_server.h"

namespace mayfly {

class ServerThread {
 public:
  explicit ServerThread(Handler handler, HttpServerOptions options = {});
  // On a loop that the handler knows too; `loop` outlives the server.
  ServerThread(Loop& loop, Handler handler, HttpServerOptions options = {});
  ~ServerThread();  // closes with no patience

  std::uint16_t port() const { return port_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  Loop& loop() { return loop_; }
  HttpServer& server() { return server_; }
  // Starts closing and returns at once; wait_closed() joins the thread.
  void begin_close(Duration timeout);
  // Connections made after this speak TLS.
  void set_tls(TlsContext context);
  std::string https_url() const { return "https://localhost:" + std::to_string(port_); }
  void wait_closed();

 private:
  static Task<void> close_then_stop(ServerThread& self, Duration timeout);

  Loop own_loop_;
  Loop& loop_;
  HttpServer server_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

// A blocking socket that sends and receives exactly the bytes a test says.
class RawClient {
 public:
  // `from`: one of the many addresses that loopback has.
  explicit RawClient(std::uint16_t port, const std::string& from = "127.0.0.1");
  void send(std::string_view bytes) const;
  // Receives until `end` has been seen; what came so far, if the connection ends first.
  std::string read_until(std::string_view end);
  std::string read_to_end();
  // One reply with a Content-Length, head and body.
  std::string read_reply();
  // What has arrived already, added to `text`. False: the connection has ended.
  bool read_available(std::string& text) const;
  void half_close() const;
  void reset();  // closes at once

 private:
  bool fill();
  Fd socket_;
  std::string buffer_;
};

}  // namespace mayfly
