// When a schedule is due: the five fields of cron, read by the clock on the wall of a time zone.
//
//   minute 0-59, hour 0-23, day of the month 1-31, month 1-12 or JAN-DEC, weekday 0-7 or SUN-SAT
//
// A field is `*`, a value, a range a-b, either of the ranges with a step (`*/5`, `8-18/2`), or a
// list of these. If neither day field begins with `*`, one of the two is enough; else both must
// fit. `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly` are
// themselves.
//
// Where the clock is moved: a time that does not exist is due once, right when the clock has leapt
// over it; one that comes twice is due the first time. But a schedule of every hour goes by the
// time that passes: it has nothing to make up for, and runs in both hours of the same name.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "events/time_zone.h"

namespace mayfly {

class Cron {
 public:
  // invalid_setting, naming the field; also for a day that never comes, as 30 February.
  static Result<Cron> parse(std::string_view text);

  // The first time after `after`; nullopt: none in the 41 years that follow, after which the
  // calendar repeats itself.
  std::optional<WallTime> next(const TimeZone& zone, WallTime after) const;

  // Values that fit, a bit each.
  struct Fields {
    std::uint64_t minutes = 0;
    std::uint64_t hours = 0;
    std::uint64_t days = 0;
    std::uint64_t months = 0;
    std::uint64_t weekdays = 0;  // 0: Sunday
    bool any_day = false;        // it begins with `*`
    bool any_weekday = false;
    bool operator==(const Fields&) const = default;
  };
  const Fields& fields() const { return fields_; }

 private:
  explicit Cron(const Fields& fields) : fields_(fields) {}
  std::optional<WallTime> next_by_clock(const TimeZone& zone, WallTime after) const;
  std::optional<WallTime> next_by_time(const TimeZone& zone, WallTime after) const;

  Fields fields_;
};

}  // namespace mayfly
