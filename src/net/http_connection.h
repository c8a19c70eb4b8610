// Internal to the server: one connection, from accept to close, which is also the Exchange of the
// request it is serving. All of its buffers are reused from request to request.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
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
#include "net/pace.h"
#include "net/peer_limit.h"
#include "net/transport.h"

namespace mayfly {

class HttpConnection;

// A connection that was accepted: who it is, and whether it is served.
struct HttpServer::Newcomer {
  enum class Fate : std::uint8_t { Serve, NodeIsFull, AddressIsFull };

  Fd socket;
  std::string peer;
  TlsSession session;                     // null: plain
  std::optional<PeerLimit::Place> place;  // of its address
  Fate fate = Fate::Serve;
};

// What the connections of a server have in common.
struct HttpServer::Shared {
  Shared(Loop& on, HttpServerOptions with, Handler calls)
      : loop(on), options(with), handler(std::move(calls)), peers(with.max_per_address), gate(on) {}

  // The Date header's value, made once a second.
  std::string_view date();
  // Buffers are lent to the connections that are at work; who waits for a request has none.
  std::vector<char> take_buffer();
  void give_buffer(std::vector<char> buffer);
  // Closes the connection that has been waiting for a request the longest. False: none waits.
  bool close_oldest_idle();

  Loop& loop;
  const HttpServerOptions options;
  Handler handler;
  std::optional<TlsContext> tls;
  PeerLimit peers;
  Gate gate;                      // held by each connection
  std::size_t turned_away = 0;    // of them, those that are only told why
  HookList<HttpConnection> busy;  // every connection is in one of the two
  HookList<HttpConnection> idle;  // the longest wait first
  bool draining = false;

 private:
  std::vector<std::vector<char>> spare_buffers_;
  TimePoint date_expires_ = TimePoint::min();
  std::string date_;
};

class HttpConnection final : public Exchange, public Hook {
 public:
  HttpConnection(HttpServer::Shared& shared, HttpServer::Newcomer newcomer);

  // Serves requests until either side is done with the connection, or says why it is not served.
  Task<void> serve();
  // Ends the wait for a next request, unless one has arrived: that one is served first.
  void leave();
  // Ends every wait, the handler's through disconnected().
  void abort();

  const RequestHead& head() const override { return head_; }
  std::string_view peer() const override { return peer_; }
  const PeerCertificate* peer_certificate() const override { return certificate_.get(); }
  CancelToken disconnected() override { return disconnected_->token(); }
  Task<Result<std::size_t>> read_some(std::span<std::byte> into) override;
  std::optional<std::string> take_body() override;
  Task<Status> respond(Response response) override;
  Task<Status> start(int status, Headers headers) override;
  Task<Status> write(std::string_view bytes) override;
  Task<Status> finish() override;

 private:
  using Progress = Transport::Progress;
  using Received = Transport::Moved;
  enum class Outcome : std::uint8_t { Ready, TimedOut, Closed };
  // Where the reply stands.
  enum class Reply : std::uint8_t { None, Streaming, Sent, Broken };

  // Suspends until what blocked the last call of transport_ may have passed, `deadline` has, or the
  // server closes the connection.
  struct IoWait {
    HttpConnection& connection;
    TimePoint deadline;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter);
    Outcome await_resume();
  };
  IoWait wait(TimePoint deadline) { return {*this, deadline}; }
  Task<Outcome> wait_at(Pace& pace);
  TimePoint in(Duration delay) const { return shared_.loop.turn_time() + delay; }
  void on_event(Ready ready);
  void resume(Outcome outcome);

  // Waiting for a request
  void rest();
  void wake();
  bool is_leaving() const { return leaving_ || shared_.draining; }
  Task<bool> shake_hands();
  Task<void> turn_away();

  // Input
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
  const std::optional<PeerLimit::Place> place_;
  const HttpServer::Newcomer::Fate fate_;
  const std::string peer_;
  Transport transport_;
  std::unique_ptr<PeerCertificate> certificate_;
  bool idle_ = false;     // waiting for the first byte of a request, and in shared_.idle
  bool leaving_ = false;  // closes at the next opportunity
  bool first_request_ = true;
  bool in_handler_ = false;

  std::vector<char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  HeadScanner scanner_;
  std::optional<TimePoint> idle_deadline_;
  std::optional<TimePoint> head_deadline_;
  std::size_t head_size_ = 0;
  RequestHead head_;
  std::optional<CancelSource> disconnected_;  // renewed for each request
  std::uint64_t body_left_ = 0;
  ChunkDecoder chunks_;
  Pace body_pace_;
  bool body_broken_ = false;
  bool continue_due_ = false;

  Reply reply_ = Reply::None;
  bool close_after_reply_ = false;
  std::string out_;
  std::vector<iovec> parts_;
  std::size_t first_part_ = 0;
  Pace reply_pace_;

  bool waiting_ = false;
  Outcome outcome_ = Outcome::Ready;
  Resumption waiter_;
  Timer timer_;
  Watch watch_;  // last: its callback uses the rest
};

}  // namespace mayfly
