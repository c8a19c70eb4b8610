#include "net/http_client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <vector>

#include "base/tcp.h"
#include "core/reason.h"
#include "net/chunked.h"
#include "net/unix_address.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxResponseHead = 65'536;
constexpr std::size_t kPiece = 262'144;
constexpr int kKeepAlive = 15;  // seconds
constexpr Duration kLookForStop = std::chrono::milliseconds(100);
constexpr std::string_view kNode = "the node";

}  // namespace

Result<Url> parse_url(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return fail(Code::InvalidArgument, fmt::format("'{}' is not a URL of a node: {}", text, why));
  };
  Url url;
  url.text = text;
  if (text.starts_with("unix:")) {
    url.unix_socket = text.substr(5);
    if (!url.unix_socket.starts_with('/')) return bad("unix: needs an absolute path");
    return url;
  }
  url.tls = text.starts_with("https://");
  if (url.tls) url.port = 443;
  if (!url.tls && !text.starts_with("http://")) {
    return bad("it must begin with http://, https:// or unix:");
  }
  std::string_view rest = text.substr(text.find("//") + 2);
  if (rest.find_first_of("?#@") != std::string_view::npos) return bad("only host, port and path");
  const auto slash = std::min(rest.find('/'), rest.size());
  std::string_view authority = rest.substr(0, slash);
  url.prefix = rest.substr(slash);
  while (url.prefix.ends_with('/')) url.prefix.pop_back();
  std::string_view port;
  if (authority.starts_with('[')) {
    const auto bracket = authority.find(']');
    if (bracket == std::string_view::npos) return bad("a bracket is missing");
    url.host = authority.substr(1, bracket - 1);
    port = authority.substr(bracket + 1);
  } else {
    const auto colon = std::min(authority.find(':'), authority.size());
    url.host = authority.substr(0, colon);
    port = authority.substr(colon);
  }
  if (url.host.empty()) return bad("the host is missing");
  if (port.empty()) return url;
  const char* end = port.data() + port.size();
  const auto [stop, error] = std::from_chars(port.data() + 1, end, url.port);
  if (port[0] != ':' || error != std::errc() || stop != end) return bad("the port is no number");
  return url;
}

HttpClient::HttpClient(Url url) : HttpClient(std::move(url), Options()) {}

HttpClient::HttpClient(Url url, Options options)
    : url_(std::move(url)), options_(std::move(options)) {}

// What helps whoever meant to ask a node.
std::string HttpClient::advice(std::string_view text) const {
  return std::string(options_.peer == kNode ? text : std::string_view());
}

Error HttpClient::cannot_reach(std::string_view why) const {
  return Error{.code = Code::Unavailable,
               .message = fmt::format("cannot reach {} at {}: {}{}", options_.peer, url_.text, why,
                                      advice("; is `mayfly serve` running?"))};
}

Error HttpClient::not_trusted(std::string_view why) const {
  return Error{.code = Code::Unauthenticated,
               .message = fmt::format("the certificate of {} at {} is not trusted: {}{}",
                                      options_.peer, url_.text, why,
                                      advice("; name who issued it with --ca FILE or MAYFLY_CA"))};
}

// With the reason, where TLS has one: a server refuses a client's certificate only after the
// client's side of the handshake is done.
std::unexpected<Error> HttpClient::ended_early() const {
  if (transport_->problem().empty()) {
    return fail(
        Code::Cancelled,
        fmt::format("{} ended the connection before its reply was complete", options_.peer));
  }
  return fail(Code::Unauthenticated,
              fmt::format("{} at {} ended the connection: {}{}", options_.peer, url_.text,
                          transport_->problem(),
                          advice("; where it demands a client's certificate, name one with "
                                 "--client-cert and --client-key")));
}

// --- connecting ---

Result<Fd> HttpClient::connect_unix() {
  const auto address = UnixAddress::of(url_.unix_socket);
  if (!address) return std::unexpected(cannot_reach(address.error().message));
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno("socket");
  const int error =
      connect_within(socket.get(), address->get(), UnixAddress::size(), options_.connect_timeout);
  if (error != 0) return std::unexpected(cannot_reach(std::strerror(error)));
  return socket;
}

Result<Fd> HttpClient::connect_tcp() {
  const Duration patience = left_of(options_.connect_timeout);
  auto socket = options_.addresses.empty() ? mayfly::connect_tcp(url_.host, url_.port, patience)
                                           : mayfly::connect_tcp(options_.addresses, patience);
  if (!socket) return std::unexpected(cannot_reach(socket.error().message));
  const int one = 1;
  (void)::setsockopt(socket->get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  // A machine that is gone is noticed, however long a reply may take.
  (void)::setsockopt(socket->get(), SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  (void)::setsockopt(socket->get(), IPPROTO_TCP, TCP_KEEPIDLE, &kKeepAlive, sizeof kKeepAlive);
  (void)::setsockopt(socket->get(), IPPROTO_TCP, TCP_KEEPINTVL, &kKeepAlive, sizeof kKeepAlive);
  return socket;
}

Status HttpClient::prepare_tls() {
  if (!tls_) tls_ = options_.trust;
  if (!tls_) tls_ = TRY(TlsContext::client(options_.tls));
  return {};
}

Status HttpClient::connect() {
  buffer_.clear();
  if (url_.tls) TRY(prepare_tls());
  Fd socket = TRY(url_.unix_socket.empty() ? connect_tcp() : connect_unix());
  transport_.emplace(std::move(socket), url_.tls ? tls_->connect(url_.host) : nullptr);
  Status shaken = shake_hands();
  if (!shaken) transport_.reset();
  return shaken;
}

Status HttpClient::shake_hands() {
  while (true) {
    const Result<Transport::Progress> shaken = transport_->handshake();
    if (shaken && *shaken == Transport::Progress::Some) return {};
    if (shaken) {
      TRY(wait(options_.connect_timeout));
      continue;
    }
    const Error& error = shaken.error();
    if (error.code == Code::Unauthenticated) return std::unexpected(not_trusted(error.message));
    return fail(Code::Unavailable, fmt::format("cannot speak TLS with {}: {}; is it an https URL?",
                                               url_.text, error.message));
  }
}

// --- bytes ---

Status HttpClient::check_time() const {
  if (options_.stop != nullptr && options_.stop->load())
    return fail(Code::Unavailable, "the node is shutting down", reason::kDraining);
  if (!options_.deadline || SystemClock().now() < *options_.deadline) return {};
  return fail(Code::DeadlineExceeded,
              fmt::format("{} at {} takes too long", options_.peer, url_.text));
}

Duration HttpClient::left_of(Duration patience) const {
  if (!options_.deadline) return patience;
  return std::clamp(*options_.deadline - SystemClock().now(), Duration::zero(), patience);
}

Status HttpClient::wait(Duration patience, Also also) {
  short events = transport_->waits_for_output() ? POLLOUT : POLLIN;
  if (also == Also::Input) events |= POLLIN;
  pollfd poll_fd{.fd = transport_->fd(), .events = events, .revents = 0};
  const TimePoint until = SystemClock().now() + patience;
  while (true) {
    TRY(check_time());
    Duration wait = left_of(std::max(until - SystemClock().now(), Duration::zero()));
    if (options_.stop != nullptr) wait = std::min(wait, kLookForStop);
    const int ready = ::poll(&poll_fd, 1, poll_timeout(wait));
    if (ready > 0) {
      transport_->on_ready(true, true, false);
      return {};
    }
    if (ready == 0 && SystemClock().now() >= until) {
      return fail(Code::DeadlineExceeded,
                  fmt::format("{} at {} does not answer", options_.peer, url_.text));
    }
    if (ready < 0 && errno != EINTR) return fail_errno("poll");
  }
}

Result<bool> HttpClient::fill(Duration patience) {
  TRY(check_time());
  const std::size_t before = buffer_.size();
  buffer_.resize(before + 65536);
  const std::span room(buffer_.data() + before, 65536);
  Transport::Moved got = transport_->receive(std::as_writable_bytes(room));
  Status waited;
  while (waited && got.progress == Transport::Progress::Blocked) {
    waited = wait(patience);
    got = transport_->receive(std::as_writable_bytes(room));
  }
  buffer_.resize(before + got.size);
  if (!waited && got.size == 0) return std::unexpected(std::move(waited).error());
  return got.progress == Transport::Progress::Some;
}

Status HttpClient::send_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const iovec part{.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
    const Transport::Moved sent = transport_->send({&part, 1});
    bytes.remove_prefix(sent.size);
    if (sent.progress == Transport::Progress::Some) continue;
    if (sent.progress == Transport::Progress::End) {
      return fail(Code::Cancelled, fmt::format("{} closed the connection", options_.peer));
    }
    // A server that refuses the request answers without reading the rest of it.
    TRY(wait(options_.stall_timeout, Also::Input));
    if (transport_->has_input())
      return fail(Code::Cancelled, fmt::format("{} answered early", options_.peer));
  }
  return {};
}

// --- one request ---

std::string HttpClient::encode_head(const ClientRequest& request) const {
  const bool ipv6 = url_.host.contains(':');
  std::string head =
      fmt::format("{} {}{} HTTP/1.1\r\n", request.method, url_.prefix, request.target);
  if (!request.headers.find("Host")) {
    if (!url_.unix_socket.empty()) {
      head += "Host: localhost\r\n";
    } else {
      head += fmt::format("Host: {}{}{}:{}\r\n", ipv6 ? "[" : "", url_.host, ipv6 ? "]" : "",
                          url_.port);
    }
  }
  for (std::size_t i = 0; i < request.headers.size(); ++i) {
    const Headers::Field field = request.headers[i];
    head.append(field.name).append(": ").append(field.value).append("\r\n");
  }
  if (const auto* text = std::get_if<std::string>(&request.body)) {
    const bool has_body = request.method != "GET" && request.method != "HEAD";
    if (!text->empty() || has_body) head += fmt::format("Content-Length: {}\r\n", text->size());
  } else if (const auto& source = std::get<BodySource>(request.body); source.length) {
    head += fmt::format("Content-Length: {}\r\n", *source.length);
  } else {
    head += "Transfer-Encoding: chunked\r\n";
  }
  return head + "\r\n";
}

Status HttpClient::send_source(BodySource& source) {
  std::vector<std::byte> memory(kPiece);
  std::uint64_t left = source.length.value_or(std::numeric_limits<std::uint64_t>::max());
  while (left > 0) {
    const std::span room = std::span(memory).first(std::min<std::uint64_t>(memory.size(), left));
    const std::size_t got = TRY(source.read(room));
    if (got == 0) break;
    left -= got;
    if (!source.length) TRY(send_all(fmt::format("{:x}\r\n", got)));
    TRY(send_all({reinterpret_cast<const char*>(memory.data()), got}));
    if (!source.length) TRY(send_all("\r\n"));
  }
  if (!source.length) return send_all("0\r\n\r\n");
  if (left > 0) return fail(Code::DataLoss, "the file became shorter while it was sent");
  return {};
}

Status HttpClient::send_request(ClientRequest& request) {
  const auto* text = std::get_if<std::string>(&request.body);
  if (text == nullptr) {
    TRY(send_all(encode_head(request)));
    return send_source(std::get<BodySource>(request.body));
  }
  if (text->size() <= kPiece) return send_all(encode_head(request) + *text);
  TRY(send_all(encode_head(request)));
  return send_all(*text);
}

Result<ResponseHead> HttpClient::read_head() {
  HeadScanner scanner(kMaxResponseHead);
  while (true) {
    const std::size_t size = TRY(scanner.scan(buffer_));
    if (size == 0) {
      const Duration patience = buffer_.empty() ? options_.reply_timeout : options_.stall_timeout;
      if (TRY(fill(patience))) continue;
      return ended_early();
    }
    ResponseHead head = TRY(parse_response_head(std::string_view(buffer_).substr(0, size)));
    buffer_.erase(0, size);
    if (head.status >= 200) return head;
    scanner.reset();  // 100 Continue: the reply follows
  }
}

Status HttpClient::read_chunked(const std::function<Status(std::string_view)>& take) {
  ChunkDecoder decoder;
  while (true) {
    std::size_t used = 0;
    while (used < buffer_.size() && !decoder.done()) {
      used += TRY(decoder.read_framing(std::string_view(buffer_).substr(used)));
      const auto size = std::min<std::uint64_t>(decoder.data_left(), buffer_.size() - used);
      if (size > 0) TRY(take(std::string_view(buffer_).substr(used, size)));
      decoder.took(size);
      used += size;
    }
    buffer_.erase(0, used);
    if (decoder.done()) return {};
    if (!TRY(fill())) return ended_early();
  }
}

Status HttpClient::read_body(const ResponseHead& head, ClientRequest& request,
                             ClientResponse& response) {
  const bool to_sink = request.sink && head.status < 300;
  const std::function<Status(std::string_view)> take = [&](std::string_view piece) -> Status {
    if (to_sink) return request.sink(piece);
    if (response.body.size() + piece.size() > options_.collected_limit.count) {
      return fail(Code::OutOfRange, "the reply is too large");
    }
    response.body += piece;
    return {};
  };
  if (request.method == "HEAD" || head.status == 204 || head.status == 304) return {};
  if (head.chunked) return read_chunked(take);
  std::uint64_t left = head.content_length.value_or(std::numeric_limits<std::uint64_t>::max());
  while (left > 0) {
    const auto size = std::min<std::uint64_t>(left, buffer_.size());
    if (size > 0) TRY(take(std::string_view(buffer_).substr(0, size)));
    buffer_.erase(0, size);
    left -= size;
    if (left == 0 || TRY(fill())) continue;
    if (head.content_length) return ended_early();
    return {};
  }
  return {};
}

Result<ClientResponse> HttpClient::exchange(ClientRequest& request) {
  const Status sent = send_request(request);
  // A refusal may have been sent before the whole request was: prefer it to the error of sending.
  if (!sent && sent.error().code != Code::Cancelled) return std::unexpected(sent.error());
  ResponseHead head = TRY(read_head());
  ClientResponse response{.status = head.status, .headers = std::move(head.headers), .body = {}};
  if (request.on_head) request.on_head(response.status, response.headers);
  TRY(read_body(head, request, response));
  const bool delimited = head.chunked || head.content_length || head.status == 204;
  if (!sent || !head.keep_alive || !delimited) transport_.reset();
  return response;
}

Result<ClientResponse> HttpClient::send(ClientRequest request) {
  if (!request.headers.well_formed()) {
    return fail(Code::InvalidArgument, "a header of the request has a line break");
  }
  if (request.deadline) options_.deadline = request.deadline;
  // Closed by the server while idle: nothing else comes from one that was not asked.
  if (transport_ && transport_->has_input()) transport_.reset();
  const bool reused = transport_.has_value();
  if (!reused) TRY(connect());
  Result<ClientResponse> response = exchange(request);
  if (response) return response;
  transport_.reset();
  const bool untouched = buffer_.empty() && std::holds_alternative<std::string>(request.body);
  if (!reused || !untouched || response.error().code != Code::Cancelled) return response;
  TRY(connect());
  response = exchange(request);
  if (!response) transport_.reset();
  return response;
}

}  // namespace mayfly
