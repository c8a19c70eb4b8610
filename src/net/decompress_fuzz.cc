// Bounded decompression of anything, in pieces of any size; and what we compress comes back the
// same.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/check.h"
#include "net/decompress.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mayfly;
  if (size < 2) return 0;
  constexpr std::uint64_t kLimit = 100'000;
  const Encoding encoding = data[0] % 2 == 0 ? Encoding::Gzip : Encoding::Deflate;
  const std::size_t piece = data[1] + 1U;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  (void)choose_encoding(bytes);
  const auto named = parse_content_encoding(bytes);
  CHECK(named || named.error().code == Code::Unimplemented);

  Decompressor decompressor(encoding, Bytes{kLimit});
  std::array<std::byte, 512> room;
  std::span<const std::byte> in = std::as_bytes(std::span(bytes));
  std::uint64_t produced = 0;
  while (true) {
    const auto step =
        decompressor.decode(in.first(std::min(in.size(), piece)), std::span(room).first(piece));
    if (!step) break;
    CHECK(step->produced <= piece && step->consumed <= in.size());
    produced += step->produced;
    CHECK(produced <= kLimit);
    in = in.subspan(step->consumed);
    if (step->consumed == 0 && step->produced == 0) break;
  }
  CHECK(decompress(encoding, compress(encoding, bytes), Bytes{bytes.size()}) == bytes);
  return 0;
}
