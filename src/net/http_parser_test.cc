#include "net/http_parser.h"

#include <string>
#include <vector>

#include "net/chunked.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

Result<RequestHead> parse(std::string_view bytes) {
  HeadScanner scanner(16 * 1024);
  const std::size_t size = TRY(scanner.scan(bytes));
  if (size == 0) return fail(Code::Aborted, "incomplete");
  RequestHead head;
  TRY(parse_request_head(bytes.substr(0, size), head));
  return head;
}

// Decodes `bytes` given in pieces of `piece`.
Result<std::string> unchunk(std::string_view bytes, std::size_t piece, std::size_t& used) {
  ChunkDecoder decoder;
  std::string out;
  used = 0;
  while (used < bytes.size() && !decoder.done()) {
    const std::string_view some = bytes.substr(used, piece);
    used += TRY(decoder.read_framing(some));
    const std::size_t data = std::min<std::uint64_t>(decoder.data_left(), bytes.size() - used);
    out += bytes.substr(used, std::min(data, piece));
    decoder.took(std::min(data, piece));
    used += std::min(data, piece);
  }
  if (!decoder.done()) return fail(Code::Aborted, "incomplete");
  return out;
}

}  // namespace

TEST_CASE("a request head is taken apart") {
  const Result<RequestHead> head = parse(
      "POST /v2/models/a%20b/infer?x=1&name=a+b%21&empty HTTP/1.1\r\nHost: here:8080\r\n"
      "content-LENGTH: 12\r\nExpect: 100-continue\r\nConnection: close\r\nX: \t v \r\n\r\nbody");
  REQUIRE(head);
  CHECK(head->method == Method::Post);
  CHECK(head->path() == "/v2/models/a%20b/infer");
  CHECK(percent_decode(head->path()) == "/v2/models/a b/infer");
  CHECK(head->query("x") == "1");
  CHECK(head->query("name") == "a b!");
  CHECK(head->query("empty") == "");
  CHECK_FALSE(head->query("none"));
  CHECK(head->host == "here:8080");
  CHECK(head->headers.find("x") == "v");
  CHECK(head->content_length == 12);
  CHECK(head->expects_continue);
  CHECK_FALSE(head->keep_alive);
}

TEST_CASE("keep-alive follows the version and the Connection header") {
  CHECK(parse("GET / HTTP/1.1\r\nHost: x\r\n\r\n")->keep_alive);
  CHECK_FALSE(parse("GET / HTTP/1.0\r\n\r\n")->keep_alive);
  CHECK(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")->keep_alive);
  CHECK_FALSE(parse("GET / HTTP/1.1\r\nHost: x\r\nConnection: a, close\r\n\r\n")->keep_alive);
}

TEST_CASE("an absolute target names the host itself") {
  const Result<RequestHead> head = parse("GET http://a.b:1/p?q HTTP/1.1\r\nHost: A.b:1\r\n\r\n");
  REQUIRE(head);
  CHECK(head->host == "a.b:1");
  CHECK(head->target == "/p?q");
  CHECK(parse("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n")->target == "/");
}

TEST_CASE("a head that arrives byte by byte ends where it ends") {
  const std::string bytes = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  HeadScanner scanner(1024);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    CHECK(scanner.scan(std::string_view(bytes).substr(0, i)) == 0U);
  }
  CHECK(scanner.scan(bytes + "next") == bytes.size());
}

TEST_CASE("a head past the limit is refused, with or without an end") {
  HeadScanner open(64);
  CHECK_FALSE(open.scan("GET / HTTP/1.1\r\nX: " + std::string(64, 'a')));
  HeadScanner closed(64);
  CHECK_FALSE(closed.scan("GET / HTTP/1.1\r\nX: " + std::string(64, 'a') + "\r\n\r\n"));
}

TEST_CASE("what different servers read differently is refused") {
  const std::vector<std::string> bad{
      "GET / HTTP/1.1\nHost: x\n\n",
      "GET / HTTP/1.1\r\nHost: x\n\r\n",
      "GET / HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\nX : a\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\nX: a\001b\r\n\r\n",
      "GET / HTTP/2.0\r\nHost: x\r\n\r\n",
      "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
      "G\"T / HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET x HTTP/1.1\r\nHost: x\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
      "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: x\r\nExpect: something\r\nContent-Length: 1\r\n\r\n",
      "\x16\x03\x01 TLS",
  };
  for (const std::string& bytes : bad) {
    CAPTURE(bytes);
    const Result<RequestHead> head = parse(bytes);
    REQUIRE_FALSE(head);
    CHECK(head.error().code != Code::Aborted);
  }
}

TEST_CASE("a chunked body is decoded however it is cut, and what follows it is left") {
  const std::string body = "4;ext=\"1\"\r\nwiki\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nNEXT";
  for (std::size_t piece = 1; piece <= body.size(); ++piece) {
    std::size_t used = 0;
    const Result<std::string> out = unchunk(body, piece, used);
    REQUIRE(out);
    CHECK(*out == "wiki0123456789");
    CHECK(body.substr(used) == "NEXT");
  }
}

TEST_CASE("malformed chunks are refused") {
  const std::vector<std::string> bad{"\r\n",
                                     "g\r\n",
                                     "-1\r\n",
                                     "4\nwiki",
                                     "4\r\nwikiX",
                                     "4 \nw",
                                     "4\r\nwiki\n",
                                     "0\r\nx\n\r\n",
                                     "0\r\n\n",
                                     "fffffffffffffffff\r\n",
                                     "0x4\r\n",
                                     "4;a\nwiki\r\n",
                                     std::string(9000, '0'),
                                     "4;" + std::string(9000, 'a'),
                                     "0\r\nT: " + std::string(9000, 'a')};
  for (const std::string& bytes : bad) {
    CAPTURE(bytes);
    std::size_t used = 0;
    const Result<std::string> out = unchunk(bytes, 1, used);
    REQUIRE_FALSE(out);
    CHECK(out.error().code == Code::InvalidArgument);
  }
}

TEST_CASE("headers are found without regard to case, and line breaks are noticed") {
  Headers headers{{.name = "A-b", .value = "1"}, {.name = "a-B", .value = "x, Close"}};
  CHECK(headers.find("A-B") == "1");
  CHECK(headers.count("a-b") == 2);
  CHECK(headers.has_token("A-B", "close"));
  CHECK(headers.well_formed());
  headers.add("Evil", "a\r\nSet-Cookie: b");
  CHECK_FALSE(headers.well_formed());
}

TEST_CASE("an error reply escapes what it quotes") {
  const Response response = error_response(400, "bad \"name\"\n\\", "bad_request");
  CHECK(std::get<std::string>(response.body) ==
        "{\"error\":\"bad \\\"name\\\"\\u000a\\\\\",\"reason\":\"bad_request\"}\n");
}

}  // namespace mayfly
