#include "core/iso_date.h"

#include <fmt/format.h>

#include <chrono>
#include <cstddef>

namespace mayfly {
namespace {

using namespace std::chrono;

// Takes what a date is made of off the front; `ok` says whether all of it was there.
class DateText {
 public:
  explicit DateText(std::string_view text) : rest_(text) {}

  unsigned digits(std::size_t count) {
    unsigned value = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (i >= rest_.size() || rest_[i] < '0' || rest_[i] > '9') {
        ok = false;
        return 0;
      }
      value = value * 10 + static_cast<unsigned>(rest_[i] - '0');
    }
    rest_.remove_prefix(count);
    return value;
  }
  bool take(char wanted) {
    if (rest_.empty() || rest_.front() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool at_digit() const { return !rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9'; }
  bool at_end() const { return rest_.empty(); }

  bool ok = true;

 private:
  std::string_view rest_;
};

// ".25", with as many digits as one likes.
milliseconds read_fraction(DateText& text) {
  if (!text.take('.') && !text.take(',')) return {};
  if (!text.at_digit()) text.ok = false;
  int value = 0;
  for (int unit = 100; text.at_digit(); unit /= 10)
    value += static_cast<int>(text.digits(1)) * unit;
  return milliseconds(value);
}

// "Z", "+02:00", "+0200", "+02", or nothing.
minutes read_zone(DateText& text) {
  if (text.at_end() || text.take('Z') || text.take('z')) return {};
  const bool east = text.take('+');
  if (!east && !text.take('-')) {
    text.ok = false;
    return {};
  }
  const unsigned hour = text.digits(2);
  const bool colon = text.take(':');
  const unsigned minute = colon || text.at_digit() ? text.digits(2) : 0;
  if (hour > 23 || minute > 59) text.ok = false;
  const minutes offset = hours(hour) + minutes(minute);
  return east ? offset : -offset;
}

milliseconds read_time(DateText& text, bool basic) {
  const auto separated = [&] { return basic ? text.at_digit() : text.take(':'); };
  const unsigned hour = text.digits(2);
  unsigned minute = 0;
  unsigned second = 0;
  if (separated()) {
    minute = text.digits(2);
    if (separated()) second = text.digits(2);
  } else {
    text.ok = false;
  }
  if (hour > 23 || minute > 59 || second > 60) text.ok = false;
  return hours(hour) + minutes(minute) + seconds(second) + read_fraction(text);
}

}  // namespace

std::optional<std::int64_t> parse_iso_date(std::string_view string) {
  if (string.size() < 10 || string.size() > 40) return std::nullopt;
  DateText text(string);
  const unsigned y = text.digits(4);
  const bool basic = !text.take('-');
  const unsigned m = text.digits(2);
  if (!basic && !text.take('-')) return std::nullopt;
  const unsigned d = text.digits(2);
  const year_month_day date{year(static_cast<int>(y)), month(m), day(d)};
  if (!text.ok || y == 0 || !date.ok()) return std::nullopt;
  milliseconds time{};
  minutes offset{};
  if (!text.at_end()) {
    // Eight digits alone are a number.
    if (!text.take('T') && !text.take('t') && (basic || !text.take(' '))) return std::nullopt;
    time = read_time(text, basic);
    // As PostgreSQL and pandas write it.
    if (!basic) (void)text.take(' ');
    offset = read_zone(text);
  } else if (basic) {
    return std::nullopt;
  }
  if (!text.ok || !text.at_end()) return std::nullopt;
  return milliseconds(sys_days(date).time_since_epoch() + time - offset).count();
}

std::string format_iso_date(std::int64_t count) {
  const sys_time<milliseconds> time{milliseconds(count)};
  const auto midnight = floor<days>(time);
  const year_month_day date(midnight);
  std::string day_text =
      fmt::format("{:04}-{:02}-{:02}", static_cast<int>(date.year()),
                  static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
  if (time == midnight) return day_text;
  const hh_mm_ss clock(time - midnight);
  return fmt::format("{}T{:02}:{:02}:{:02}.{:03}Z", day_text, clock.hours().count(),
                     clock.minutes().count(), clock.seconds().count(), clock.subseconds().count());
}

}  // namespace mayfly
