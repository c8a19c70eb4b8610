// What two HTTP implementations might read differently, as text: smuggling_cases.txt says how a
// case is written.
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <mutex>
#include <string>
#include <vector>

#include "base/file.h"
#include "net/testing/server_thread.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

struct SmugglingCase {
  std::string name;
  std::string status;  // of the last reply before the connection closes, or "keeps"
  std::string bytes;
};

// "\r", "\n", "\t", "\\", "\xHH", and "\{N}c", which is N times the character c.
std::string unescape(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      bytes += text[i];
      continue;
    }
    const char kind = text[++i];
    if (kind == 'x') {
      bytes += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else if (kind == '{') {
      const std::size_t end = text.find('}', i);
      bytes.append(std::stoul(std::string(text.substr(i + 1, end - i - 1))), text[end + 1]);
      i = end + 1;
    } else {
      bytes += kind == 'r' ? '\r' : kind == 'n' ? '\n' : kind == 't' ? '\t' : kind;
    }
  }
  return bytes;
}

std::vector<SmugglingCase> read_cases() {
  const auto text = read_file(Path(MAYFLY_SOURCE_DIR) / "src/net/smuggling_cases.txt");
  REQUIRE(text);
  std::vector<SmugglingCase> cases;
  for (std::size_t begin = 0; begin < text->size();) {
    const std::size_t end = std::min(text->find('\n', begin), text->size());
    const std::string_view line = std::string_view(*text).substr(begin, end - begin);
    begin = end + 1;
    if (line.empty() || line.starts_with('#')) continue;
    if (line.starts_with("== ")) {
      const std::size_t space = line.find(' ', 3);
      cases.push_back({.name = std::string(line.substr(space + 1)),
                       .status = std::string(line.substr(3, space - 3)),
                       .bytes = {}});
    } else {
      REQUIRE_FALSE(cases.empty());
      cases.back().bytes += unescape(line);
    }
  }
  return cases;
}

// Reads the body, notes what was asked for, and answers.
Task<void> note_target(Exchange& exchange, std::vector<std::string>& seen) {
  seen.push_back(exchange.head().method_text + " " + exchange.head().target);
  std::array<std::byte, 256> piece;
  Response response{.status = 200, .headers = {}, .body = "fine"};
  while (true) {
    const Result<std::size_t> got = co_await exchange.read_some(piece);
    if (!got) response = error_response(400, got.error().message, got.error().reason);
    if (!got || *got == 0) break;
  }
  (void)co_await exchange.respond(std::move(response));
}

}  // namespace

TEST_CASE("what servers read differently is refused, and what follows it is never a request") {
  const std::vector<SmugglingCase> cases = read_cases();
  CHECK(cases.size() > 60);
  for (const SmugglingCase& test : cases) {
    CAPTURE(test.name);
    std::vector<std::string> seen;
    {
      ServerThread server([&](Exchange& exchange) { return note_target(exchange, seen); });
      RawClient client(server.port());
      client.send(test.bytes + "GET /smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
      client.half_close();
      const std::string reply = client.read_to_end();
      CAPTURE(reply);
      if (test.status == "keeps") {
        CHECK(reply.starts_with("HTTP/1.1 200 "));
      } else {
        CHECK(reply.substr(reply.rfind("HTTP/1.1 ")).starts_with("HTTP/1.1 " + test.status));
        CHECK(reply.contains("Connection: close\r\n"));
      }
    }
    const bool smuggled = !seen.empty() && seen.back() == "GET /smuggled";
    CHECK(smuggled == (test.status == "keeps"));
  }
}

}  // namespace mayfly
