#include "core/iso_date.h"

#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("dates of ISO 8601 are milliseconds of UTC") {
  const std::vector<std::pair<std::string_view, std::int64_t>> cases = {
      {"1970-01-01", 0},
      {"1970-01-02T00:00", 86'400'000},
      {"1970-01-01 00:00:01", 1000},
      {"1970-01-01T00:00:00.25Z", 250},
      {"1970-01-01T00:00:00,123456Z", 123},
      {"1970-01-01T02:00:00+02:00", 0},
      {"1970-01-01T02:00:00+0200", 0},
      {"1969-12-31 19:00:00 -05", 0},
      {"19700101T000001Z", 1000},
      {"1969-12-31T23:59:59.999Z", -1},
      {"2024-02-29", 1'709'164'800'000},
      {"0001-01-01", -62'135'596'800'000},
      {"9999-12-31T23:59:59Z", 253'402'300'799'000},
      {"2016-12-31T23:59:60Z", 1'483'228'800'000},
  };
  for (const auto& [text, wanted] : cases) {
    CAPTURE(text);
    CHECK(parse_iso_date(text) == wanted);
  }
}

TEST_CASE("what is no date is none") {
  for (const std::string_view text : {"",
                                      "2024",
                                      "2024-02-30",
                                      "2023-02-29",
                                      "20240229",
                                      "2024-2-9",
                                      "2024/02/29",
                                      "29.02.2024",
                                      "2024-02-29T",
                                      "2024-02-29T25:00",
                                      "2024-02-29T12",
                                      "2024-02-29T12:60",
                                      "2024-02-29T12:00+",
                                      "2024-02-29T12:00+24:00",
                                      "2024-02-29 12:00:00.",
                                      "2024-02-29x",
                                      "0000-01-01",
                                      "2024-13-01",
                                      "2024-02-29T12:00:00Zx",
                                      "-2024-02-29",
                                      "2024-02-29T12:00 Z "}) {
    CAPTURE(text);
    CHECK_FALSE(parse_iso_date(text).has_value());
  }
}

TEST_CASE("a date is written so that it reads back") {
  CHECK(format_iso_date(0) == "1970-01-01");
  CHECK(format_iso_date(-1) == "1969-12-31T23:59:59.999Z");
  for (const std::int64_t time : {-62'135'596'800'000, 1'709'164'800'000, 1'709'164'800'001}) {
    CHECK(parse_iso_date(format_iso_date(time)) == time);
  }
}
