#include "identity/base64url.h"

#include <string>

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("base64url reads back, and there is one text for the same bytes") {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    const std::string text = encode_base64url(std::as_bytes(std::span(bytes)));
    CHECK(decode_base64url(text) == bytes);
    bytes += static_cast<char>(i * 37);
  }
  CHECK(encode_base64url(std::as_bytes(std::span(std::string_view("\xfb\xff")))) == "-_8");
  for (const char* bad : {"-_9", "-_8=", "+/8", "A", "AAAAA", "-_ 8", "QQ==", "QR", "Q\n"})
    CHECK_FALSE(decode_base64url(bad).has_value());
}
