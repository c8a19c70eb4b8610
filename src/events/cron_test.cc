#include "events/cron.h"

#include <string>
#include <vector>

#include "core/reason.h"
#include "core/units.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

WallTime time_of(const std::string& text) { return parse_time(text).value(); }

// The runs that follow `after`, to the minute.
std::vector<std::string> runs(const std::string& cron, const std::string& zone,
                              const std::string& after, std::size_t count) {
  const Cron parsed = Cron::parse(cron).value();
  const TimeZone rules = TimeZone::find(zone).value();
  std::vector<std::string> times;
  WallTime at = time_of(after);
  while (times.size() < count) {
    const auto next = parsed.next(rules, at);
    if (!next) break;
    REQUIRE(*next > at);
    at = *next;
    times.push_back(format_time(at).substr(0, 16));
  }
  return times;
}

using Times = std::vector<std::string>;

}  // namespace

TEST_CASE("cron's fields are lists, ranges, steps and names") {
  const Cron::Fields fields = Cron::parse("*/20,5 8-18/5 1,15 jan,Mar-MAY mon-FRI")->fields();
  CHECK(fields.minutes == (1ULL << 0 | 1ULL << 5 | 1ULL << 20 | 1ULL << 40));
  CHECK(fields.hours == (1ULL << 8 | 1ULL << 13 | 1ULL << 18));
  CHECK(fields.days == (1ULL << 1 | 1ULL << 15));
  CHECK(fields.months == (1ULL << 1 | 1ULL << 3 | 1ULL << 4 | 1ULL << 5));
  CHECK(fields.weekdays == 0b0111110);
  CHECK(Cron::parse("0 0 * * 7")->fields() == Cron::parse("0 0 * * SUN")->fields());
  CHECK(Cron::parse(" 0\t0  1 1 * ")->fields() == Cron::parse("@yearly")->fields());
  CHECK(Cron::parse("@hourly")->fields() == Cron::parse("0 * * * *")->fields());
}

TEST_CASE("a wrong cron says which field is wrong, and how") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"60 * * * *", "the field 'minute': '60' is not 0 to 59"},
      {"* 24 * * *", "the field 'hour': '24' is not 0 to 23"},
      {"* * 0 * *", "the field 'day of the month': '0' is not 1 to 31"},
      {"* * * 13 *", "the field 'month': '13' is not 1 to 12 or JAN to DEC"},
      {"* * * * MOND", "the field 'day of the week': 'MOND' is not 0 to 7 or SUN to SAT"},
      {"* * * * FRI-MON", "'FRI-MON' goes downwards"},
      {"*/0 * * * *", "needs a step of 1 to 59"},
      {"*/x * * * *", "needs a step of 1 to 59"},
      {"5/10 * * * *", "has a step without a range"},
      {"1,,2 * * * *", "the field 'minute': ''"},
      {"-1 * * * *", "the field 'minute': ''"},
      {"+1 * * * *", "the field 'minute': '+1'"},
      {"0 2 * *", "has 4 fields"},
      {"0 2 * * * *", "has 6 fields"},
      {"", "has 0 fields"},
      {"@reboot", "has 1 field;"},
      {"0 0 30 2 *", "'30' never comes"},
      {"0 0 31 4,6,9,11 *", "'31' never comes"},
      {std::string(257, '*'), "longer than 256"}};
  for (const auto& [text, why] : cases) {
    CAPTURE(text);
    const auto parsed = Cron::parse(text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().reason == reason::kInvalidSetting);
    CAPTURE(parsed.error().message);
    CHECK(parsed.error().message.contains(why));
  }
}

TEST_CASE("zones are those of the IANA database") {
  CHECK(TimeZone::find("America/Argentina/Ushuaia").has_value());
  for (const char* name : {"", "Berlin", "Europe/berlin", "../../etc/passwd", "+02:00"}) {
    CAPTURE(name);
    CHECK(TimeZone::find(name).error().reason == reason::kInvalidSetting);
  }
}

TEST_CASE("one of two day fields is enough, if neither begins with a star") {
  // The 13th, and every Friday.
  CHECK(runs("0 0 13 * FRI", "UTC", "2026-11-01T00:00:00Z", 4) ==
        Times{"2026-11-06T00:00", "2026-11-13T00:00", "2026-11-20T00:00", "2026-11-27T00:00"});
  CHECK(runs("0 0 13 * *", "UTC", "2026-11-01T00:00:00Z", 2) ==
        Times{"2026-11-13T00:00", "2026-12-13T00:00"});
  // Mondays of odd days.
  CHECK(runs("0 0 */2 * MON", "UTC", "2026-11-01T00:00:00Z", 2) ==
        Times{"2026-11-09T00:00", "2026-11-23T00:00"});
}

TEST_CASE("leap days and long jumps") {
  CHECK(runs("0 12 29 2 *", "UTC", "2026-01-01T00:00:00Z", 2) ==
        Times{"2028-02-29T12:00", "2032-02-29T12:00"});
  CHECK(runs("0 12 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1) == Times{"2104-02-29T12:00"});
  // Of a weekday, which */7 makes a condition: Sundays.
  CHECK(runs("0 12 29 2 */7", "UTC", "2026-01-01T00:00:00Z", 2) ==
        Times{"2032-02-29T12:00", "2060-02-29T12:00"});
  CHECK(runs("0 0 1 1 *", "UTC", "2026-01-01T00:00:00Z", 1) == Times{"2027-01-01T00:00"});
  CHECK(runs("59 23 31 12 *", "Pacific/Kiritimati", "2026-01-01T00:00:00Z", 1) ==
        Times{"2026-12-31T09:59"});
}

TEST_CASE("the next run is after the time that is asked for, to the nanosecond") {
  const Cron cron = Cron::parse("0 2 * * *").value();
  const TimeZone utc = TimeZone::find("UTC").value();
  const WallTime two = time_of("2026-06-01T02:00:00Z");
  CHECK(cron.next(utc, two - 1ns) == two);
  CHECK(cron.next(utc, two) == two + 24h);
  CHECK(cron.next(utc, two + 1ns) == two + 24h);
  const Cron often = Cron::parse("*/15 * * * *").value();
  CHECK(often.next(utc, two - 1ns) == two);
  CHECK(often.next(utc, two) == two + 15min);
}

TEST_CASE("a time that the clock leaps over is due once, right after the leap") {
  // Berlin: 29 March 2026, 02:00 CET is 03:00 CEST, 01:00 UTC.
  CHECK(runs("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3) ==
        Times{"2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"});
  CHECK(runs("*/20 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2) ==
        Times{"2026-03-29T01:00", "2026-03-30T00:00"});
  // Every two hours: 02:00 is made up for at 03:00.
  CHECK(runs("0 */2 * * *", "Europe/Berlin", "2026-03-28T22:30:00Z", 3) ==
        Times{"2026-03-28T23:00", "2026-03-29T01:00", "2026-03-29T02:00"});
  // New York: 8 March 2026, 02:00 EST is 03:00 EDT, 07:00 UTC.
  CHECK(runs("15 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", 2) ==
        Times{"2026-03-08T07:00", "2026-03-09T06:15"});
  // What is due in the leap and right after it is one run.
  CHECK(runs("0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2) ==
        Times{"2026-03-29T01:00", "2026-03-30T00:00"});
  // Midnight itself can be what is missing.
  CHECK(runs("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", 2) ==
        Times{"2026-04-23T22:00", "2026-04-24T21:00"});
}

TEST_CASE("a time that comes twice is due the first time") {
  // Berlin: 25 October 2026, 03:00 CEST is 02:00 CET, 01:00 UTC.
  CHECK(runs("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2) ==
        Times{"2026-10-25T00:30", "2026-10-26T01:30"});
  CHECK(runs("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", 1) ==
        Times{"2026-10-26T01:30"});
  CHECK(runs("*/30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1) ==
        Times{"2026-10-26T01:00"});
  // New York: 1 November 2026, 02:00 EDT is 01:00 EST, 06:00 UTC.
  CHECK(runs("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2) ==
        Times{"2026-11-01T05:30", "2026-11-02T06:30"});
}

TEST_CASE("a schedule of every hour goes by the time that passes") {
  CHECK(runs("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3) ==
        Times{"2026-03-29T00:30", "2026-03-29T01:30", "2026-03-29T02:30"});
  CHECK(runs("30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", 3) ==
        Times{"2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"});
  // 45 minutes past the hour, as its clocks have it.
  CHECK(runs("0 * * * *", "Asia/Kathmandu", "2026-06-01T00:00:00Z", 2) ==
        Times{"2026-06-01T00:15", "2026-06-01T01:15"});
  CHECK(runs("0 * 1 1 *", "Europe/Berlin", "2026-06-01T00:00:00Z", 2) ==
        Times{"2026-12-31T23:00", "2027-01-01T00:00"});
}
