#include "net/http_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <charconv>

namespace mayfly {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using BeastText = beast::string_view;

std::string_view text_of(BeastText text) { return {text.data(), text.size()}; }

std::unexpected<Error> malformed(std::string_view what) {
  return fail(Code::InvalidArgument, fmt::format("malformed HTTP message: {}", what),
              "bad_request");
}

// What Beast checks field by field and we collect. Bodies are not its business: put() stops at the
// end of the head.
template <bool is_request>
class Sink final : public http::basic_parser<is_request> {
 public:
  explicit Sink(Headers& headers) : headers_(headers) { this->eager(false); }

  BeastText method;
  BeastText target;
  int status = 0;
  int version = 11;

 private:
  using ErrorCode = beast::error_code;

  void on_request_impl(http::verb, BeastText method_text, BeastText target_text, int http_version,
                       ErrorCode&) override {
    method = method_text;
    target = target_text;
    version = http_version;
  }
  void on_response_impl(int code, BeastText, int http_version, ErrorCode&) override {
    status = code;
    version = http_version;
  }
  void on_field_impl(http::field, BeastText name, BeastText value, ErrorCode&) override {
    headers_.add(text_of(name), text_of(value));
  }
  void on_header_impl(ErrorCode&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, ErrorCode&) override {}
  std::size_t on_body_impl(BeastText, ErrorCode&) override { return 0; }
  void on_chunk_header_impl(std::uint64_t, BeastText, ErrorCode&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, BeastText, ErrorCode&) override { return 0; }
  void on_finish_impl(ErrorCode&) override {}

  Headers& headers_;
};

// Beast unfolds obsolete line folding (a continuation line begins with a blank); RFC 9112 §5.2 lets
// a server refuse it, and we do.
bool has_folded_line(std::string_view head) {
  for (auto at = head.find('\n'); at != std::string_view::npos; at = head.find('\n', at + 1)) {
    if (at + 1 < head.size() && (head[at + 1] == ' ' || head[at + 1] == '\t')) return true;
  }
  return false;
}

struct Framing {
  bool chunked = false;
  std::optional<std::uint64_t> content_length;
};

// How the body is delimited; RFC 9112 §6.
Result<Framing> framing_of(const Headers& headers, bool http_1_0) {
  Framing framing;
  for (std::size_t i = 0; i < headers.size(); ++i) {
    const Headers::Field field = headers[i];
    if (equals_ignoring_case(field.name, "Transfer-Encoding")) {
      if (framing.chunked || http_1_0) {
        return malformed("Transfer-Encoding twice, or in HTTP/1.0");
      }
      if (!equals_ignoring_case(field.value, "chunked")) {
        return fail(Code::Unimplemented, "only Transfer-Encoding: chunked is supported",
                    "bad_request");
      }
      framing.chunked = true;
    } else if (equals_ignoring_case(field.name, "Content-Length")) {
      std::uint64_t length = 0;
      const char* end = field.value.data() + field.value.size();
      const auto [stop, error] = std::from_chars(field.value.data(), end, length);
      if (error != std::errc() || stop != end) return malformed("Content-Length is not a number");
      if (framing.content_length) return malformed("two Content-Length headers");
      framing.content_length = length;
    }
  }
  if (framing.chunked && framing.content_length) {
    return malformed("both Content-Length and Transfer-Encoding");
  }
  return framing;
}

// The host as a URL may have it (RFC 3986 §3.2.2), with a port: nothing that could end it for one
// reader and not for another.
bool is_host(std::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    return c > ' ' && c < 0x7f &&
           std::string_view("/\\?#@,<>\"{}|^`").find(c) == std::string_view::npos;
  });
}

// An absolute URL names its host itself (RFC 9112 §3.2.2); what stays in `target` is its path. A
// Host header that says otherwise is refused: who reads which is not to be guessed.
Status split_target(RequestHead& head) {
  const std::string_view target = head.target;
  if (target.starts_with('/')) return {};
  if (target == "*" && head.method == Method::Options) return {};
  const std::size_t scheme = target.find("://");
  const std::string_view name = target.substr(0, std::min(scheme, target.size()));
  if (scheme == std::string_view::npos ||
      !(equals_ignoring_case(name, "http") || equals_ignoring_case(name, "https"))) {
    return malformed("the target is neither a path nor an http URL");
  }
  const std::string_view rest = target.substr(scheme + 3);
  const auto end = std::min(rest.find_first_of("/?"), rest.size());
  const std::string_view host = rest.substr(0, end);
  if (host.empty() || !is_host(host)) return malformed("the target's host is none");
  if (!head.host.empty() && !equals_ignoring_case(host, head.host)) {
    return malformed("the target and the Host header name different hosts");
  }
  std::string path(rest.substr(end));
  if (!path.starts_with('/')) path.insert(0, "/");
  head.host.assign(host);
  head.target = std::move(path);
  return {};
}

}  // namespace

Result<std::size_t> HeadScanner::scan(std::string_view bytes) {
  // A TLS handshake has no line end to wait for.
  if (!bytes.empty() && static_cast<unsigned char>(bytes[0]) < 0x20) {
    return malformed("this port speaks plain HTTP/1.1");
  }
  while (scanned_ < bytes.size()) {
    const auto newline = bytes.find('\n', scanned_);
    if (newline == std::string_view::npos) {
      scanned_ = bytes.size();
      break;
    }
    if (newline == 0 || bytes[newline - 1] != '\r') {
      return malformed("a line ends in LF without CR");
    }
    scanned_ = newline + 1;
    // The bytes before this CR LF are another one: an empty line.
    if (newline >= 3 && bytes[newline - 2] == '\n') {
      if (scanned_ > limit_) break;
      return scanned_;
    }
  }
  if (scanned_ > limit_) {
    return fail(Code::OutOfRange, fmt::format("the headers are larger than {} bytes", limit_),
                "too_large");
  }
  return std::size_t{0};
}

Status parse_request_head(std::string_view bytes, RequestHead& head) {
  head.headers.clear();
  if (has_folded_line(bytes)) return malformed("folded header lines are not supported");
  Sink<true> sink(head.headers);
  sink.header_limit(static_cast<std::uint32_t>(bytes.size() + 1));
  sink.body_limit(boost::none);
  beast::error_code error;
  sink.put(boost::asio::const_buffer(bytes.data(), bytes.size()), error);
  if (error) return malformed(error.message());
  if (!sink.is_header_done()) return malformed("the head is incomplete");

  head.method_text.assign(text_of(sink.method));
  head.method = parse_method(head.method_text);
  head.target.assign(text_of(sink.target));
  head.http_1_0 = sink.version == 10;
  head.keep_alive = sink.keep_alive();
  const Framing framing = TRY(framing_of(head.headers, head.http_1_0));
  head.chunked = framing.chunked;
  head.content_length = framing.content_length;
  head.expects_continue = false;
  if (const auto expect = head.headers.find("Expect"); expect && !head.http_1_0) {
    if (!equals_ignoring_case(*expect, "100-continue")) {
      return fail(Code::FailedPrecondition, "only Expect: 100-continue is supported",
                  "bad_request");
    }
    head.expects_continue = head.has_body();
  }
  const std::size_t hosts = head.headers.count("Host");
  if (hosts > 1 || (hosts == 0 && !head.http_1_0)) return malformed("there must be one Host");
  head.host.assign(head.headers.find("Host").value_or(""));
  if (!is_host(head.host)) return malformed("Host is no host");
  return split_target(head);
}

Result<ResponseHead> parse_response_head(std::string_view bytes) {
  ResponseHead head;
  Sink<false> sink(head.headers);
  sink.header_limit(static_cast<std::uint32_t>(bytes.size() + 1));
  sink.body_limit(boost::none);
  beast::error_code error;
  sink.put(boost::asio::const_buffer(bytes.data(), bytes.size()), error);
  if (error) return malformed(error.message());
  if (!sink.is_header_done()) return malformed("the head is incomplete");
  head.status = sink.status;
  const bool http_1_0 = sink.version == 10;
  head.keep_alive = http_1_0 ? head.headers.has_token("Connection", "keep-alive")
                             : !head.headers.has_token("Connection", "close");
  const Framing framing = TRY(framing_of(head.headers, http_1_0));
  head.chunked = framing.chunked;
  head.content_length = framing.content_length;
  return head;
}

}  // namespace mayfly
