// gzip and deflate over memory, bounded on both sides. Pure: no I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace mayfly {

// "deflate" means zlib (RFC 1950); senders of raw deflate (RFC 1951) exist and are recognised by
// the first two bytes.
enum class Encoding : std::uint8_t { Gzip, Deflate };

// From a Content-Encoding; nullopt for "identity" and none, an error for what we do not read.
Result<std::optional<Encoding>> parse_content_encoding(std::string_view value);
// The one of ours that an Accept-Encoding ranks highest; nullopt to send the bytes as they are.
std::optional<Encoding> choose_encoding(std::string_view accept_encoding);
std::string_view to_string(Encoding encoding);

// Decodes a stream piece by piece into memory of the caller.
class Decompressor {
 public:
  // An output longer than `limit` is an error, so that a small body cannot become a large one.
  Decompressor(Encoding encoding, Bytes limit);
  ~Decompressor();
  Decompressor(Decompressor&&) noexcept;
  Decompressor& operator=(Decompressor&&) noexcept;

  struct Progress {
    std::size_t consumed = 0;
    std::size_t produced = 0;
    bool done = false;  // the end of the stream was seen and its checksum is right
  };
  // Consumes and produces as much as fits; call again with the rest. No progress with room in `out`
  // means that it needs more input. InvalidArgument: corrupt; ResourceExhausted: past the limit.
  // Gzip members may follow one another; anything else after the end is corrupt.
  Result<Progress> decode(std::span<const std::byte> in, std::span<std::byte> out);
  bool done() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The whole input at once, for replies.
std::string compress(Encoding encoding, std::span<const std::span<const std::byte>> parts);
std::string compress(Encoding encoding, std::string_view bytes);
Result<std::string> decompress(Encoding encoding, std::string_view bytes, Bytes limit);

}  // namespace mayfly
