// The chunked transfer coding (RFC 9112 §7.1), as a pure decoder and encoder.
//
//   4\r\n data \r\n 5;ext=1\r\n data2 \r\n 0\r\n [trailer: field\r\n]* \r\n
//
// Strict: sizes are 1–15 hexadecimal digits without blanks, lines end in CR LF, trailers are
// fields, and size lines and trailers have a bound. Extensions and trailers are read and dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace mayfly {

class ChunkDecoder {
 public:
  // Reads framing from the front of `bytes` until data follows, the body ends, or `bytes` is used
  // up. Returns how much was framing. InvalidArgument: not a chunked body.
  Result<std::size_t> read_framing(std::string_view bytes);
  // How many of the next bytes are data of the current chunk: take up to that many, then say so.
  std::uint64_t data_left() const { return data_left_; }
  void took(std::uint64_t count) { data_left_ -= count; }
  // Nothing of the body follows; what comes next is another message.
  bool done() const { return state_ == State::Done; }

 private:
  enum class State : std::uint8_t {
    Size,
    Extension,
    SizeLf,
    DataCr,
    DataLf,
    LineStart,
    Name,
    Line,
    LineLf,
    EndLf,
    Done
  };
  static constexpr std::uint32_t kMaxFraming = 8192;  // of one size line, or of all trailers

  Status step(char c);
  Status size_digit(char c);

  State state_ = State::Size;
  std::uint64_t data_left_ = 0;
  std::uint64_t size_ = 0;
  std::uint32_t digits_ = 0;
  std::uint32_t framing_ = 0;
};

}  // namespace mayfly
