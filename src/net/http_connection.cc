#include "net/http_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace mayfly {
namespace {

// How long and how much a connection that is being closed still reads, so that the reply is not
// lost to the reset that closing with unread input sends (RFC 9112 §9.6).
constexpr Duration kLingerTime = std::chrono::seconds(2);
constexpr std::size_t kLingerBytes = 67'108'864;
// What a connection may keep for its next request while it waits for it.
constexpr std::size_t kKeptBytes = 1024;

std::unexpected<Error> client_gone() {
  return fail(Code::Cancelled, "the client closed the connection", "client_gone");
}

std::unexpected<Error> client_stalls() {
  return fail(Code::DeadlineExceeded, "the client stopped sending or reading", "deadline_exceeded");
}

int status_of_refusal(Code code) {
  switch (code) {
    case Code::OutOfRange:
      return 431;
    case Code::DeadlineExceeded:
      return 408;
    case Code::FailedPrecondition:
      return 417;
    case Code::Unimplemented:
      return 501;
    default:
      return 400;
  }
}

bool status_has_body(int status) { return status >= 200 && status != 204 && status != 304; }

}  // namespace

HttpConnection::HttpConnection(HttpServer::Shared& shared, HttpServer::Newcomer newcomer)
    : shared_(shared),
      place_(std::move(newcomer.place)),
      fate_(newcomer.fate),
      peer_(std::move(newcomer.peer)),
      transport_(std::move(newcomer.socket), std::move(newcomer.session)),
      scanner_(shared.options.max_header_bytes),
      body_pace_(shared.options.body_timeout, shared.options.min_rate),
      reply_pace_(shared.options.write_timeout, shared.options.min_rate),
      timer_(shared.loop, [this] { resume(Outcome::TimedOut); }),
      watch_(shared.loop, transport_.fd(), Trigger::Edge,
             [this](Ready ready) { on_event(ready); }) {
  shared_.busy.push_back(*this);
}

// --- waiting ---

void HttpConnection::IoWait::await_suspend(std::coroutine_handle<> waiter) {
  connection.waiter_.handle = waiter;
  connection.waiting_ = true;
  connection.timer_.arm(deadline);
}

HttpConnection::Outcome HttpConnection::IoWait::await_resume() {
  connection.timer_.cancel();
  return connection.outcome_;
}

void HttpConnection::resume(Outcome outcome) {
  if (!waiting_) return;
  waiting_ = false;
  outcome_ = outcome;
  shared_.loop.make_ready(waiter_);
}

void HttpConnection::on_event(Ready ready) {
  transport_.on_ready(ready.readable, ready.writable, ready.hangup);
  if (ready.hangup && in_handler_) disconnected_->cancel();
  if (transport_.may_go_on()) resume(Outcome::Ready);
}

void HttpConnection::leave() {
  leaving_ = true;
  if (!idle_) return;
  // A request may have arrived without its event: look once more, or it would be lost.
  transport_.on_ready(true, false, false);
  resume(Outcome::Ready);
}

void HttpConnection::abort() {
  transport_.cut();
  if (in_handler_) disconnected_->cancel();
  resume(Outcome::Closed);
}

// Waits for the client for as long as its pace allows.
Task<HttpConnection::Outcome> HttpConnection::wait_at(Pace& pace) {
  const TimePoint began = shared_.loop.turn_time();
  const Outcome outcome = co_await wait(in(pace.left()));
  pace.waited(shared_.loop.turn_time() - began);
  co_return outcome;
}

// --- waiting for a request ---

// Nothing has been received: what the last request left is not needed for now.
void HttpConnection::rest() {
  idle_ = true;
  shared_.idle.push_back(*this);
  shared_.give_buffer(std::exchange(buffer_, {}));
  begin_ = end_ = 0;
  if (head_size_ > kKeptBytes) head_ = RequestHead();
  head_size_ = 0;
  if (out_.capacity() > kKeptBytes) out_ = std::string();
  if (parts_.capacity() > kKeptBytes / sizeof(iovec)) parts_ = std::vector<iovec>();
}

void HttpConnection::wake() {
  if (!idle_) return;
  idle_ = false;
  shared_.busy.push_back(*this);
}

// False: there will be no request. Who only fails at TLS is not answered.
Task<bool> HttpConnection::shake_hands() {
  head_deadline_ = in(shared_.options.header_timeout);
  while (true) {
    const Result<Progress> shaken = transport_.handshake();
    if (!shaken) {
      LOG(debug, "a TLS handshake failed", {"peer", peer_}, {"error", shaken.error().message});
      if (shaken.error().code != Code::FailedPrecondition) co_return false;
      transport_.turn_plain();
      co_await refuse(Error{.code = Code::InvalidArgument,
                            .message = shaken.error().message,
                            .reason = "bad_request"});
      co_return false;
    }
    if (*shaken == Progress::Some) break;
    if (is_leaving()) co_return false;
    rest();
    const Outcome outcome = co_await wait(*head_deadline_);
    wake();
    if (outcome != Outcome::Ready) co_return false;
  }
  if (auto certificate = transport_.peer_certificate()) {
    certificate_ = std::make_unique<PeerCertificate>(*std::move(certificate));
  }
  co_return true;
}

// --- input ---

// Adds to the buffer, which has room or is given some.
HttpConnection::Received HttpConnection::fill() {
  if (buffer_.empty()) buffer_ = shared_.take_buffer();
  if (begin_ == end_) begin_ = end_ = 0;
  if (end_ == buffer_.size()) {
    if (begin_ > 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    } else {
      buffer_.resize(buffer_.size() * 2);
    }
  }
  const std::span room(buffer_.data() + end_, buffer_.size() - end_);
  const Received received = transport_.receive(std::as_writable_bytes(room));
  end_ += received.size;
  return received;
}

std::size_t HttpConnection::take_buffered(std::span<std::byte> into) {
  const std::size_t size = std::min(into.size(), end_ - begin_);
  std::memcpy(into.data(), buffer_.data() + begin_, size);
  begin_ += size;
  return size;
}

// True: a whole head has been read into head_. False: more must come. An error with Code::Cancelled
// is the orderly end of the connection.
Result<bool> HttpConnection::try_read_head() {
  while (true) {
    // RFC 9112 §2.2: empty lines before a request are skipped.
    while (buffered().starts_with("\r\n")) begin_ += 2;
    if (!buffered().empty() && buffered() != "\r") {
      const std::size_t size = TRY(scanner_.scan(buffered()));
      if (size > 0) {
        TRY(parse_request_head(buffered().substr(0, size), head_));
        begin_ += size;
        head_size_ = size;
        return true;
      }
    }
    const Received received = fill();
    if (received.progress == Progress::Blocked) return false;
    if (received.progress == Progress::End) return client_gone();
  }
}

// One deadline for the whole wait and one for the whole head, or a client could keep them open with
// an empty line or a byte now and then.
TimePoint HttpConnection::head_deadline() {
  const auto set_once = [this](std::optional<TimePoint>& deadline, Duration delay) {
    if (!deadline) deadline = in(delay);
    return *deadline;
  };
  if (buffered().empty() && !first_request_) {
    return set_once(idle_deadline_, shared_.options.idle_timeout);
  }
  return set_once(head_deadline_, shared_.options.header_timeout);
}

void HttpConnection::begin_request() {
  scanner_.reset();
  head_deadline_.reset();
  idle_deadline_.reset();
  first_request_ = false;
  disconnected_.emplace();
  body_left_ = head_.content_length.value_or(0);
  chunks_ = ChunkDecoder();
  body_pace_.restart();
  reply_pace_.restart();
  body_broken_ = false;
  // Who has sent some of the body already does not wait.
  continue_due_ = head_.expects_continue && buffered().empty();
  reply_ = Reply::None;
  close_after_reply_ = false;
  in_handler_ = true;
  if (transport_.hangup()) disconnected_->cancel();
}

bool HttpConnection::body_done() const { return head_.chunked ? chunks_.done() : body_left_ == 0; }

Result<HttpConnection::Received> HttpConnection::try_read_body(std::span<std::byte> into) {
  if (head_.chunked) return try_read_chunked(into);
  into = into.first(std::min<std::uint64_t>(into.size(), body_left_));
  Received received{Progress::Some, take_buffered(into)};
  if (received.size == 0) received = transport_.receive(into);
  body_left_ -= received.size;
  return received;
}

Result<HttpConnection::Received> HttpConnection::try_read_chunked(std::span<std::byte> into) {
  while (true) {
    begin_ += TRY(chunks_.read_framing(buffered()));
    if (chunks_.done()) return Received{Progress::Some, 0};
    const std::uint64_t left = chunks_.data_left();
    if (left > 0) {
      const auto piece = into.first(std::min<std::uint64_t>(into.size(), left));
      Received received{Progress::Some, take_buffered(piece)};
      // A large chunk goes straight to its place; small ones come many to a read, through the
      // buffer.
      if (received.size == 0 && piece.size() >= buffer_.size()) {
        received = transport_.receive(piece);
        if (received.progress != Progress::Some) return received;
      }
      if (received.size > 0) {
        chunks_.took(received.size);
        return received;
      }
    }
    const Received received = fill();
    if (received.progress != Progress::Some) return received;
  }
}

Task<Status> HttpConnection::send_continue() {
  continue_due_ = false;
  out_ = "HTTP/1.1 100 Continue\r\n\r\n";
  parts_.clear();
  add_part(std::as_bytes(std::span(out_)));
  co_return co_await send_parts();
}

std::optional<std::string> HttpConnection::take_body() {
  if (head_.chunked || continue_due_ || body_broken_ || buffered().size() < body_left_) {
    return std::nullopt;
  }
  std::string body(buffered().substr(0, body_left_));
  begin_ += body.size();
  body_left_ = 0;
  return body;
}

Task<Result<std::size_t>> HttpConnection::read_some(std::span<std::byte> into) {
  CHECK(!into.empty());
  if (body_done()) co_return 0;
  if (body_broken_) co_return client_gone();
  if (continue_due_ && reply_ == Reply::None) {
    CO_TRY_STATUS(co_await send_continue());
  }
  while (true) {
    Result<Received> received = try_read_body(into);
    if (received && received->progress == Progress::Some) {
      body_pace_.moved(received->size);
      co_return received->size;
    }
    if (!received || received->progress == Progress::End) {
      body_broken_ = true;
      if (received) co_return client_gone();
      co_return std::unexpected(std::move(received).error());
    }
    const Outcome outcome = co_await wait_at(body_pace_);
    if (outcome == Outcome::Ready) continue;
    body_broken_ = true;
    if (outcome == Outcome::TimedOut) co_return client_stalls();
    co_return client_gone();
  }
}

// Reads what the handler left of the body; false when it is not worth it.
Task<bool> HttpConnection::skip_body() {
  std::array<std::byte, 16384> waste;
  std::uint64_t skipped = 0;
  while (!body_done()) {
    const Result<std::size_t> got = co_await read_some(waste);
    if (!got) co_return false;
    skipped += *got;
    if (skipped > shared_.options.unread_body_limit) co_return false;
  }
  co_return true;
}

// --- output ---

bool HttpConnection::must_close() const {
  if (!head_.keep_alive || is_leaving() || body_broken_) return true;
  // A client that waits for "100 Continue" may send the body after our reply or may not.
  if (continue_due_) return true;
  return !head_.chunked && body_left_ > shared_.options.unread_body_limit;
}

void HttpConnection::prepare_head(int status, const Headers& headers,
                                  std::optional<std::uint64_t> length) {
  out_.clear();
  out_.append("HTTP/1.1 ");
  fmt::format_to(std::back_inserter(out_), "{} ", status);
  out_.append(reason_phrase(status)).append("\r\nDate: ").append(shared_.date()).append("\r\n");
  for (std::size_t i = 0; i < headers.size(); ++i) {
    const Headers::Field field = headers[i];
    out_.append(field.name).append(": ").append(field.value).append("\r\n");
  }
  if (length) {
    out_.append("Content-Length: ");
    out_.append(fmt::format_int(*length).c_str()).append("\r\n");
  } else if (status_has_body(status) && !head_.http_1_0) {
    out_.append("Transfer-Encoding: chunked\r\n");
  }
  if (close_after_reply_) {
    out_.append("Connection: close\r\n");
  } else if (head_.http_1_0) {
    out_.append("Connection: keep-alive\r\n");
  }
  out_.append("\r\n");
  parts_.clear();
  add_part(std::as_bytes(std::span(out_)));
}

void HttpConnection::add_part(std::span<const std::byte> part) {
  if (parts_.empty()) first_part_ = 0;
  if (part.empty()) return;
  parts_.push_back({.iov_base = const_cast<std::byte*>(part.data()), .iov_len = part.size()});
}

HttpConnection::Progress HttpConnection::try_send() {
  while (first_part_ < parts_.size()) {
    const Received sent = transport_.send(std::span(parts_).subspan(first_part_));
    if (sent.progress != Progress::Some) return sent.progress;
    reply_pace_.moved(sent.size);
    std::size_t left = sent.size;
    while (first_part_ < parts_.size() && left >= parts_[first_part_].iov_len) {
      left -= parts_[first_part_++].iov_len;
    }
    if (left > 0) {
      iovec& part = parts_[first_part_];
      part.iov_base = static_cast<std::byte*>(part.iov_base) + left;
      part.iov_len -= left;
    }
  }
  return Progress::Some;
}

Task<Status> HttpConnection::send_parts() {
  while (true) {
    const Progress progress = try_send();
    if (progress == Progress::Some) co_return Status();
    Outcome outcome = Outcome::Closed;
    if (progress == Progress::Blocked) {
      outcome = co_await wait_at(reply_pace_);
    }
    if (outcome == Outcome::Ready) continue;
    reply_ = Reply::Broken;
    if (outcome == Outcome::TimedOut) co_return client_stalls();
    co_return client_gone();
  }
}

Task<Status> HttpConnection::respond(Response response) {
  CHECK(reply_ == Reply::None || reply_ == Reply::Broken);
  if (reply_ == Reply::Broken) co_return client_gone();
  if (!response.headers.well_formed()) {
    response = error_response(500, "the reply has a malformed header", "internal");
  }
  close_after_reply_ = must_close();
  std::uint64_t length = 0;
  const auto* text = std::get_if<std::string>(&response.body);
  if (text != nullptr) {
    length = text->size();
  } else {
    for (const auto& part : std::get<SharedBytes>(response.body).parts) length += part.size();
  }
  const bool has_body = status_has_body(response.status);
  prepare_head(response.status, response.headers, has_body ? std::optional(length) : std::nullopt);
  if (has_body && head_.method != Method::Head) {
    if (text != nullptr) {
      add_part(std::as_bytes(std::span(*text)));
    } else {
      for (const auto& part : std::get<SharedBytes>(response.body).parts) add_part(part);
    }
  }
  reply_ = Reply::Sent;
  // Almost always the socket takes it all at once; only then is there a second coroutine.
  if (try_send() == Progress::Some) co_return Status();
  co_return co_await send_parts();
}

Task<Status> HttpConnection::start(int status, Headers headers) {
  CHECK(reply_ == Reply::None || reply_ == Reply::Broken);
  if (reply_ == Reply::Broken) co_return client_gone();
  CHECK(headers.well_formed());
  // The end of an HTTP/1.0 reply of unknown length is the end of the connection.
  close_after_reply_ = must_close() || head_.http_1_0;
  prepare_head(status, headers, std::nullopt);
  reply_ = Reply::Streaming;
  co_return co_await send_parts();
}

Task<Status> HttpConnection::write(std::string_view bytes) {
  if (reply_ != Reply::Streaming) co_return client_gone();
  if (bytes.empty() || head_.method == Method::Head) co_return Status();
  parts_.clear();
  if (head_.http_1_0) {
    add_part(std::as_bytes(std::span(bytes)));
    co_return co_await send_parts();
  }
  out_ = fmt::format("{:x}\r\n", bytes.size());
  add_part(std::as_bytes(std::span(out_)));
  add_part(std::as_bytes(std::span(bytes)));
  add_part(std::as_bytes(std::span("\r\n", 2)));
  co_return co_await send_parts();
}

Task<Status> HttpConnection::finish() {
  if (reply_ != Reply::Streaming) co_return client_gone();
  reply_ = Reply::Sent;
  if (head_.http_1_0 || head_.method == Method::Head) co_return Status();
  parts_.clear();
  add_part(std::as_bytes(std::span("0\r\n\r\n", 5)));
  co_return co_await send_parts();
}

// --- the life of a connection ---

// Answers what is no request.
Task<void> HttpConnection::refuse(Error error) {
  head_ = RequestHead();
  head_.keep_alive = false;
  reply_ = Reply::None;
  Response response = error_response(status_of_refusal(error.code), error.message, error.reason);
  (void)co_await respond(std::move(response));
  co_await linger();
}

// False when the connection has to end.
Task<bool> HttpConnection::end_request() {
  if (reply_ == Reply::None) {
    Response response = error_response(500, "the request was not answered", "internal");
    (void)co_await respond(std::move(response));
  }
  if (reply_ != Reply::Sent) co_return false;
  if (!body_done() && !close_after_reply_) close_after_reply_ = !co_await skip_body();
  if (!close_after_reply_) co_return true;
  co_await linger();
  co_return false;
}

Task<void> HttpConnection::linger() {
  if (!transport_.end_output()) co_return;
  std::vector<std::byte> waste(65536);
  const TimePoint deadline = in(kLingerTime);
  std::size_t dropped = 0;
  while (dropped < kLingerBytes) {
    const Received received = transport_.drop(waste);
    if (received.progress == Progress::End) co_return;
    dropped += received.size;
    if (received.progress == Progress::Some) continue;
    if (co_await wait(deadline) != Outcome::Ready) co_return;
  }
}

// False: nobody will send a request on this connection any more. InvalidArgument and the like: what
// came is none.
Task<Result<bool>> HttpConnection::wait_for_head() {
  while (true) {
    if (buffered().empty()) {
      if (is_leaving()) co_return false;
      rest();
    }
    const Outcome outcome = co_await wait(head_deadline());
    wake();
    if (outcome == Outcome::Ready) {
      Result<bool> head = try_read_head();
      if (!head || *head) co_return head;
    } else if (outcome == Outcome::Closed || buffered().empty()) {
      co_return false;
    } else {
      co_return client_stalls();
    }
  }
}

// Without looking at what it asks for.
Task<void> HttpConnection::turn_away() {
  const bool node = fate_ == HttpServer::Newcomer::Fate::NodeIsFull;
  Response response = error_response(
      503,
      node ? "the node has too many connections (limits.max_connections)"
           : "this address has too many connections (limits.max_connections_per_address)",
      "node_busy");
  response.headers.add("Retry-After", "1");
  head_.keep_alive = false;
  (void)co_await respond(std::move(response));
  co_await linger();
}

Task<void> HttpConnection::serve() {
  if (transport_.is_shaking() && !co_await shake_hands()) co_return;
  if (fate_ != HttpServer::Newcomer::Fate::Serve) {
    co_await turn_away();
    co_return;
  }
  while (true) {
    Result<bool> head = try_read_head();
    if (head && !*head) head = co_await wait_for_head();
    if (!head && head.error().code != Code::Cancelled) co_await refuse(head.error());
    if (!head || !*head) {
      // TLS has an end of its own, without which a client must suspect that something was cut off.
      if (transport_.is_tls()) (void)transport_.end_output();
      co_return;
    }
    begin_request();
    co_await shared_.handler(*this);
    in_handler_ = false;
    const bool simple = reply_ == Reply::Sent && body_done() && !close_after_reply_;
    if (!simple && !co_await end_request()) co_return;
  }
}

}  // namespace mayfly
