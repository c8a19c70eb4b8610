// The server's reading of a connection without the socket: heads and bodies, one after another, and
// the same bytes as a reply. The input's first byte says into which pieces the rest is cut.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "net/chunked.h"
#include "net/http_parser.h"

namespace {

using namespace mayfly;

constexpr std::size_t kHeadLimit = 16'384;

// Returns what follows the body; empty when it is incomplete or malformed.
std::string_view skip_chunked(std::string_view bytes, std::size_t piece) {
  ChunkDecoder decoder;
  while (!bytes.empty() && !decoder.done()) {
    const Result<std::size_t> used = decoder.read_framing(bytes.substr(0, piece));
    if (!used) return {};
    bytes.remove_prefix(*used);
    const auto data = std::min<std::uint64_t>(decoder.data_left(), bytes.size());
    CHECK(*used > 0 || data > 0 || decoder.done());
    decoder.took(data);
    bytes.remove_prefix(data);
  }
  return bytes;
}

void read_connection(std::string_view bytes, std::size_t piece) {
  RequestHead head;
  while (!bytes.empty()) {
    HeadScanner scanner(kHeadLimit);
    Result<std::size_t> size = std::size_t{0};
    for (std::size_t end = 0; size && *size == 0 && end < bytes.size();) {
      end = std::min(bytes.size(), end + piece);
      size = scanner.scan(bytes.substr(0, end));
    }
    if (!size || *size == 0 || !parse_request_head(bytes.substr(0, *size), head)) return;
    CHECK(head.headers.well_formed());
    CHECK(!(head.chunked && head.content_length));
    CHECK(head.target.starts_with('/') || head.target == "*");
    (void)head.query("a");
    (void)percent_decode(head.path());
    bytes.remove_prefix(*size);
    if (head.chunked) {
      bytes = skip_chunked(bytes, piece);
    } else {
      bytes.remove_prefix(std::min<std::uint64_t>(bytes.size(), head.content_length.value_or(0)));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  read_connection(bytes, data[0] % 64U + 1U);
  HeadScanner scanner(kHeadLimit);
  if (const Result<std::size_t> end = scanner.scan(bytes); end && *end > 0) {
    const Result<ResponseHead> reply = parse_response_head(bytes.substr(0, *end));
    CHECK(!reply || reply->status >= 0);
  }
  return 0;
}
