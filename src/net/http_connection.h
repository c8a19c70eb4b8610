// Internal to the server: one connection, from accept to close, which is also the Exchange of the
// request it is serving. All of its buffers are reused from request to request.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "async/cancel.h"
#include "async/gate.h"
#include "async/hook.h"
#include "async/loop.h"
#include "async/timer.h"
#include "async/watch.h"
#include "base/fd.h"
#include "net/chunked.h"
#include "net/exchange.h"
#include "net/http_parser.h"
#include "net/http_server.h"

namespace mayfly {

class HttpConnection;

// What the connections of a server have in common.
struct HttpServer::Shared {
  Shared(Loop& on, HttpServerOptions with, Handler calls)
      : loop(on), options(with), handler(std::move(calls)), gate(on) {}

  // The Date header's value, made once a second.
  std::string_view date();

  Loop& loop;
  const HttpServerOptions options;
  Handler handler;
  Gate gate;  // held by each connection
  HookList<HttpConnection> connections;
  bool draining = false;

 private:
  TimePoint date_expires_ = TimePoint::min();
  std::string date_;
};

class HttpConnection final : public Exchange, public Hook {
 public:
  HttpConnection(HttpServer::Shared& shared, Fd socket, std::string peer);

  // Serves requests until either side is done with the connection.
  Task<void> serve();
  // The server is closing: ends the wait for a next request.
  void close_if_idle();
  // Ends every wait, the handler's through disconnected().
  void abort();

  const RequestHead& head() const override { return head_; }
  std::string_view peer() const override { return peer_; }
  CancelToken disconnected() override { return disconnected_->token(); }
  Task<Result<std::size_t>> read_some(std::span<std::byte> into) override;
  std::optional<std::string> take_body() override;
  Task<Status> respond(Response response) override;
  Task<Status> start(int status, Headers headers) override;
  Task<Status> write(std::string_view bytes) override;
  Task<Status> finish() override;

 private:
  enum class WaitFor : std::uint8_t { Nothing, Input, Output };
  enum class Outcome : std::uint8_t { Ready, TimedOut, Closed };
  // Where the reply stands.
  enum class Reply : std::uint8_t { None, Streaming, Sent, Broken };
  enum class Progress : std::uint8_t { Some, Blocked, End };
  struct Received {
    Progress progress;
    std::size_t size = 0;
  };

  // Suspends until the socket is ready, `deadline` has passed or the server closes the connection.
  struct IoWait {
    HttpConnection& connection;
    WaitFor what;
    TimePoint deadline;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter);
    Outcome await_resume();
  };
  IoWait wait(WaitFor what, TimePoint deadline) { return {*this, what, deadline}; }
  TimePoint in(Duration delay) const { return shared_.loop.turn_time() + delay; }
  void on_event(Ready ready);
  void resume(Outcome outcome);

  // Input
  Received receive(std::span<std::byte> into);
  Received fill();
  std::string_view buffered() const { return {buffer_.data() + begin_, end_ - begin_}; }
  std::size_t take_buffered(std::span<std::byte> into);
  Result<bool> try_read_head();
  TimePoint head_deadline();
  Task<Result<bool>> wait_for_head();
  void begin_request();
  bool body_done() const;
  Result<Received> try_read_body(std::span<std::byte> into);
  Result<Received> try_read_chunked(std::span<std::byte> into);
  Task<Status> send_continue();
  Task<bool> skip_body();

  // Output
  bool must_close() const;
  void prepare_head(int status, const Headers& headers, std::optional<std::uint64_t> length);
  void add_part(std::span<const std::byte> part);
  Progress try_send();
  Task<Status> send_parts();
  Task<void> refuse(Error error);
  Task<bool> end_request();
  Task<void> linger();

  HttpServer::Shared& shared_;
  Fd socket_;
  const std::string peer_;
  bool readable_ = true;
  bool writable_ = true;
  bool hangup_ = false;
  bool idle_ = false;  // waiting for the first byte of a request
  bool first_request_ = true;
  bool in_handler_ = false;

  std::vector<char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  HeadScanner scanner_;
  std::optional<TimePoint> head_deadline_;
  RequestHead head_;
  std::optional<CancelSource> disconnected_;  // renewed for each request
  std::uint64_t body_left_ = 0;
  ChunkDecoder chunks_;
  bool body_broken_ = false;
  bool continue_due_ = false;

  Reply reply_ = Reply::None;
  bool close_after_reply_ = false;
  std::string out_;
  std::vector<iovec> parts_;
  std::size_t first_part_ = 0;

  WaitFor waiting_for_ = WaitFor::Nothing;
  Outcome outcome_ = Outcome::Ready;
  Resumption waiter_;
  Timer timer_;
  Watch watch_;  // last: its callback uses the rest
};

}  // namespace mayfly
