#include "base/utf8.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("what is UTF-8 stays, each byte of what is not is replaced") {
  for (const char* good : {"", "plain", "\xC3\xA9", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEF\xBF\xBF",
                           "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"})
    CHECK(to_utf8(good) == good);
  struct Bad {
    const char* text;
    std::size_t replaced;
  };
  for (const auto& [text, replaced] : {
           Bad{"\x80", 1},              // begins nothing
           Bad{"\xC0\xAF", 2},          // longer than it need be
           Bad{"\xE0\x9F\xBF", 3},      //
           Bad{"\xF0\x8F\xBF\xBF", 4},  //
           Bad{"\xED\xA0\x80", 3},      // a surrogate
           Bad{"\xF4\x90\x80\x80", 4},  // beyond the last character
           Bad{"\xF5\x80\x80\x80", 4},  //
           Bad{"\xE6\x97", 2},          // cut off
           Bad{"\xFF", 1},
       }) {
    std::string expected;
    for (std::size_t i = 0; i < replaced; ++i) expected += "\xEF\xBF\xBD";
    CHECK_MESSAGE(to_utf8(text) == expected, text);
  }
  CHECK(to_utf8("a\xC3(b") == "a\xEF\xBF\xBD(b");
}
