#include "core/printable.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("text from outside cannot speak to a terminal") {
  CHECK(printable("a\x1b]0;x\x07z\r\n\x7f\tok", 100) == "a?]0;x?z???\tok");
  CHECK(printable("a\xc2\x9b"
                  "31m\xc3\xa9",
                  100) == "a?31m\xc3\xa9");
  CHECK(printable("abcdef", 3) == "abc");
  CHECK(printable("", 3).empty());
}
