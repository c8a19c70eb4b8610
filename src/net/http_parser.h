// Bytes → message heads. No I/O: the server and the client feed what they have received. The only
// source that includes Boost.Beast.
//
// Stricter than Beast, because a front end that reads a message differently would let one client's
// bytes become another's request (request smuggling): refused are bare LF, folded lines,
// Content-Length beside Transfer-Encoding, two lengths, any transfer coding but exactly "chunked",
// chunked in HTTP/1.0, HTTP/1.1 without one Host, and a target that names another.
// smuggling_cases.txt has them all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "net/http.h"

namespace mayfly {

// Finds where a head ends in bytes that keep arriving, looking at each byte once.
class HeadScanner {
 public:
  explicit HeadScanner(std::size_t limit) : limit_(limit) {}

  // `bytes` starts where it started last time and is at least as long. The size of the head with
  // its empty line; 0 while it is incomplete. Errors: InvalidArgument for a bare LF, OutOfRange
  // past the limit.
  Result<std::size_t> scan(std::string_view bytes);
  void reset() { scanned_ = 0; }

 private:
  std::size_t limit_;
  std::size_t scanned_ = 0;
};

// Fills `head`, whose buffers are reused, from one complete request head: an out-parameter because
// a value would allocate for each request. After an error its content is unspecified.
Status parse_request_head(std::string_view bytes, RequestHead& head);

struct ResponseHead {
  int status = 0;
  Headers headers;
  bool keep_alive = true;
  bool chunked = false;
  std::optional<std::uint64_t> content_length;
};
Result<ResponseHead> parse_response_head(std::string_view bytes);

}  // namespace mayfly
