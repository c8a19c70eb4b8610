#include "cli/node_client.h"
#include "cli/table.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("tables align words to the left and quantities to the right, counting characters") {
  Table table({"NAME", "TIME"});
  table.add({"a", "350 µs"});
  table.add({"longer", "1.2 ms"});
  CHECK(table.str() == "NAME      TIME\na       350 µs\nlonger  1.2 ms\n");
}

TEST_CASE("numbers for people are short") {
  CHECK(human_bytes(0) == "0 B");
  CHECK(human_bytes(999) == "999 B");
  CHECK(human_bytes(29'352'200) == "29.4 MB");
  CHECK(human_bytes(1'070'000'000) == "1.1 GB");
  CHECK(human_micros(350) == "350 µs");
  CHECK(human_micros(1'234) == "1.23 ms");
  CHECK(human_micros(82'000) == "82 ms");
  CHECK(human_micros(2'500'000) == "2.50 s");
  CHECK(human_count(1'234'567) == "1,234,567");
  CHECK(human_count(12) == "12");
  CHECK(human_ago(3) == "3 s ago");
}

TEST_CASE("the node's URL follows from how it is configured") {
  CHECK(url_of_listen("127.0.0.1:9000", false) == "http://127.0.0.1:9000");
  CHECK(url_of_listen("localhost:9000", true) == "https://localhost:9000");
  CHECK(url_of_listen("", true) == "https://127.0.0.1:8080");
  CHECK(url_of_listen("unix:/run/m/s", true) == "unix:/run/m/s");
}
