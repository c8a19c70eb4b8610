#include "net/testing/server_thread.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <future>

#include "base/check.h"
#include "net/http_parser.h"

namespace mayfly {

ServerThread::ServerThread(Handler handler, HttpServerOptions options)
    : ServerThread(own_loop_, std::move(handler), options) {}

ServerThread::ServerThread(Loop& loop, Handler handler, HttpServerOptions options)
    : loop_(loop), server_(loop, options, std::move(handler)) {
  const Result<std::uint16_t> port = server_.listen("127.0.0.1", 0);
  CHECK(port);
  port_ = *port;
  thread_ = std::thread([this] { loop_.run(); });
}

ServerThread::~ServerThread() {
  if (!thread_.joinable()) return;
  begin_close(Duration::zero());
  wait_closed();
}

Task<void> ServerThread::close_then_stop(ServerThread& self, Duration timeout) {
  co_await self.server_.close(timeout);
  self.loop_.stop();
}

void ServerThread::begin_close(Duration timeout) {
  loop_.post([this, timeout] { loop_.spawn(close_then_stop(*this, timeout)); });
}

void ServerThread::set_tls(TlsContext context) {
  std::promise<void> done;
  loop_.post([&] {
    server_.set_tls(std::move(context));
    done.set_value();
  });
  done.get_future().wait();
}

void ServerThread::wait_closed() { thread_.join(); }

RawClient::RawClient(std::uint16_t port, const std::string& from)
    : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  CHECK(::inet_pton(AF_INET, from.c_str(), &address.sin_addr) == 1);
  CHECK(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  // A byte is sent when the test says so, not when the one before it has been acknowledged.
  const int one = 1;
  CHECK(::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
}

void RawClient::send(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;  // the server has closed: what it said can still be read
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

bool RawClient::fill() {
  std::array<char, 65536> piece;
  const ssize_t got = ::recv(socket_.get(), piece.data(), piece.size(), 0);
  if (got > 0) buffer_.append(piece.data(), static_cast<std::size_t>(got));
  return got > 0;
}

std::string RawClient::read_until(std::string_view end) {
  while (!buffer_.contains(end)) {
    if (!fill()) return std::exchange(buffer_, {});
  }
  const std::size_t size = buffer_.find(end) + end.size();
  std::string text = buffer_.substr(0, size);
  buffer_.erase(0, size);
  return text;
}

std::string RawClient::read_to_end() {
  while (fill()) {
  }
  return std::exchange(buffer_, {});
}

std::string RawClient::read_reply() {
  std::string reply = read_until("\r\n\r\n");
  const Result<ResponseHead> head = parse_response_head(reply);
  if (!head) return reply;
  const std::size_t length = head->content_length.value_or(0);
  while (buffer_.size() < length && fill()) {
  }
  reply += buffer_.substr(0, length);
  buffer_.erase(0, length);
  return reply;
}

bool RawClient::read_available(std::string& text) const {
  std::array<char, 65536> piece;
  while (true) {
    const ssize_t got = ::recv(socket_.get(), piece.data(), piece.size(), MSG_DONTWAIT);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
}

void RawClient::half_close() const { (void)::shutdown(socket_.get(), SHUT_WR); }

void RawClient::reset() { socket_.reset(); }

}  // namespace mayfly
