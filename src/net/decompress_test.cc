#include "net/decompress.h"

#include <zlib.h>

#include <array>
#include <string>

#include <doctest/doctest.h>

namespace mayfly {
namespace {

std::string sample() {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += std::to_string(i * 7919 % 1000) + ",";
  return text;
}

std::string raw_deflate(const std::string& text) {
  const std::string zlib = compress(Encoding::Deflate, text);
  return zlib.substr(2, zlib.size() - 6);  // without its header and checksum
}

// In pieces of one byte on both sides.
Result<std::string> decode_slowly(Encoding encoding, std::string_view bytes) {
  Decompressor decompressor(encoding, mib(1));
  std::string out;
  std::array<std::byte, 1> room;
  std::span<const std::byte> in = std::as_bytes(std::span(bytes));
  while (!in.empty() || !decompressor.done()) {
    const auto step = TRY(decompressor.decode(in.first(std::min<std::size_t>(1, in.size())), room));
    out.append(reinterpret_cast<const char*>(room.data()), step.produced);
    in = in.subspan(step.consumed);
    if (step.consumed == 0 && step.produced == 0) return fail(Code::DataLoss, "stuck");
  }
  return out;
}

}  // namespace

TEST_CASE("what is compressed is decompressed, also byte by byte") {
  const std::string text = sample();
  for (const Encoding encoding : {Encoding::Gzip, Encoding::Deflate}) {
    const std::string packed = compress(encoding, text);
    CHECK(packed.size() < text.size());
    CHECK(decompress(encoding, packed, mib(1)) == text);
    CHECK(decode_slowly(encoding, packed) == text);
  }
  CHECK(decompress(Encoding::Gzip, compress(Encoding::Gzip, ""), mib(1)) == "");
}

TEST_CASE("raw deflate is recognised") {
  CHECK(decompress(Encoding::Deflate, raw_deflate(sample()), mib(1)) == sample());
  CHECK(decode_slowly(Encoding::Deflate, raw_deflate(sample())) == sample());
}

TEST_CASE("gzip members may follow one another, rubbish may not") {
  const std::string one = compress(Encoding::Gzip, "one ");
  const std::string two = compress(Encoding::Gzip, "two");
  CHECK(decompress(Encoding::Gzip, one + two, mib(1)) == "one two");
  CHECK_FALSE(decompress(Encoding::Gzip, one + "rubbish", mib(1)));
  CHECK_FALSE(decompress(Encoding::Deflate, compress(Encoding::Deflate, "x") + "y", mib(1)));
}

TEST_CASE("a stream that is cut short or corrupt is refused") {
  const std::string packed = compress(Encoding::Gzip, sample());
  for (std::size_t size = 0; size < packed.size(); size += 97) {
    CHECK_FALSE(decompress(Encoding::Gzip, packed.substr(0, size), mib(1)));
  }
  std::string flipped = packed;
  flipped[packed.size() - 6] ^= 1;  // in the checksum
  CHECK_FALSE(decompress(Encoding::Gzip, flipped, mib(1)));
}

TEST_CASE("the limit is exact, and a bomb stops at it") {
  const std::string text(100'000, 'a');
  const std::string packed = compress(Encoding::Gzip, text);
  CHECK(decompress(Encoding::Gzip, packed, Bytes{text.size()}) == text);
  const Result<std::string> over = decompress(Encoding::Gzip, packed, Bytes{text.size() - 1});
  REQUIRE_FALSE(over);
  CHECK(over.error().code == Code::ResourceExhausted);
}

TEST_CASE("the encoding of a reply is the one the client likes best") {
  CHECK(choose_encoding("gzip, deflate") == Encoding::Gzip);
  CHECK(choose_encoding("gzip;q=0.2, deflate;q=0.8") == Encoding::Deflate);
  CHECK(choose_encoding("*") == Encoding::Gzip);
  CHECK(choose_encoding("gzip;q=0, *") == Encoding::Deflate);
  CHECK_FALSE(choose_encoding("identity"));
  CHECK_FALSE(choose_encoding(""));
  CHECK_FALSE(choose_encoding("gzip;q=0"));
  CHECK(parse_content_encoding(" GZIP ").value() == Encoding::Gzip);
  CHECK_FALSE(parse_content_encoding("identity").value());
  CHECK_FALSE(parse_content_encoding("br"));
}

}  // namespace mayfly
