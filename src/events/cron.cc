#include "events/cron.h"

#include <date/date.h>
#include <date/tz.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <span>
#include <string>
#include <vector>

#include "core/printable.h"
#include "core/reason.h"

namespace mayfly {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr std::size_t kLongestCron = 256;
// 29 February falls on a given weekday every 28 years, and after 2100 again only 40 years later.
constexpr date::years kLookAhead(41);
constexpr std::uint64_t kEveryHour = (1U << 24U) - 1;

constexpr std::array<std::string_view, 12> kMonths = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN",
                                                      "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"};
constexpr std::array<std::string_view, 7> kWeekdays = {"SUN", "MON", "TUE", "WED",
                                                       "THU", "FRI", "SAT"};
// The last day that a month can have, January first.
constexpr std::array<unsigned, 12> kLastDays = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

struct FieldKind {
  std::string_view name;
  unsigned low = 0;
  unsigned high = 0;
  unsigned last = 0;  // what `*` reaches to: 7 is another Sunday
  std::span<const std::string_view> names = {};
};
constexpr std::array<FieldKind, 5> kFields = {{
    {"minute", 0, 59, 59},
    {"hour", 0, 23, 23},
    {"day of the month", 1, 31, 31},
    {"month", 1, 12, 12, kMonths},
    {"day of the week", 0, 7, 6, kWeekdays},
}};

struct Shorthand {
  std::string_view word;
  std::string_view meaning;
};
constexpr auto kShorthands = std::to_array<Shorthand>({{"@yearly", "0 0 1 1 *"},
                                                       {"@annually", "0 0 1 1 *"},
                                                       {"@monthly", "0 0 1 * *"},
                                                       {"@weekly", "0 0 * * 0"},
                                                       {"@daily", "0 0 * * *"},
                                                       {"@midnight", "0 0 * * *"},
                                                       {"@hourly", "0 * * * *"}});

std::vector<std::string_view> split_at(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find_first_of(separators);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::unexpected<Error> wrong_field(const FieldKind& kind, std::string_view item,
                                   std::string_view why) {
  return refuse(reason::kInvalidSetting,
                fmt::format("cron: the field '{}': '{}' {}", kind.name, printable(item, 64), why));
}

bool same_word(std::string_view text, std::string_view word) {
  return std::ranges::equal(
      text, word, [](char a, char b) { return std::toupper(static_cast<unsigned char>(a)) == b; });
}

std::optional<unsigned> number_in(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<unsigned> value_in(std::string_view text, const FieldKind& kind) {
  for (std::size_t i = 0; i < kind.names.size(); ++i) {
    if (same_word(text, kind.names[i])) return static_cast<unsigned>(i) + kind.low;
  }
  const auto value = number_in(text);
  if (value && *value >= kind.low && *value <= kind.high) return *value;
  return wrong_field(
      kind, text,
      fmt::format("is not {} to {}{}", kind.low, kind.high,
                  kind.names.empty()
                      ? ""
                      : fmt::format(" or {} to {}", kind.names.front(), kind.names.back())));
}

// One of a list: "*", "7", "8-18", "*/5", "8-18/2".
Result<std::uint64_t> item_bits(std::string_view item, const FieldKind& kind) {
  const std::size_t slash = std::min(item.find('/'), item.size());
  const std::string_view range = item.substr(0, slash);
  const std::size_t dash = range.find('-');
  unsigned low = kind.low;
  unsigned high = kind.last;
  if (range != "*") {
    low = TRY(value_in(range.substr(0, dash), kind));
    high = dash == std::string_view::npos ? low : TRY(value_in(range.substr(dash + 1), kind));
  }
  if (high < low) return wrong_field(kind, item, "goes downwards; write two ranges");
  unsigned step = 1;
  if (slash < item.size()) {
    const auto given = number_in(item.substr(slash + 1));
    if (!given || *given == 0 || *given > kind.high)
      return wrong_field(kind, item, fmt::format("needs a step of 1 to {}", kind.high));
    if (range != "*" && dash == std::string_view::npos)
      return wrong_field(kind, item, "has a step without a range; write a-b/n or */n");
    step = *given;
  }
  std::uint64_t bits = 0;
  for (unsigned value = low; value <= high; value += step) bits |= std::uint64_t{1} << value;
  return bits;
}

Result<std::uint64_t> field_bits(std::string_view text, const FieldKind& kind) {
  std::uint64_t bits = 0;
  for (const std::string_view item : split_at(text, ",")) bits |= TRY(item_bits(item, kind));
  return bits;
}

bool has_bit(std::uint64_t bits, unsigned bit) { return (bits >> bit & 1U) != 0; }

// Whether any month has any of the days.
bool ever_comes(const Cron::Fields& fields) {
  if (!fields.any_day && !fields.any_weekday) return true;  // the weekday is enough
  for (unsigned month = 1; month <= 12; ++month) {
    const std::uint64_t there = (std::uint64_t{2} << kLastDays[month - 1]) - 2;
    if (has_bit(fields.months, month) && (fields.days & there) != 0) return true;
  }
  return false;
}

bool fits(const Cron::Fields& fields, date::local_days day) {
  const date::year_month_day ymd(day);
  if (!has_bit(fields.months, unsigned{ymd.month()})) return false;
  const bool by_day = has_bit(fields.days, unsigned{ymd.day()});
  const bool by_weekday = has_bit(fields.weekdays, date::weekday(day).c_encoding());
  const bool one_is_enough = !fields.any_day && !fields.any_weekday;
  return one_is_enough ? by_day || by_weekday : by_day && by_weekday;
}

// `from` or the first day after it that fits.
std::optional<date::local_days> next_day(const Cron::Fields& fields, date::local_days from) {
  const date::local_days last = from + date::ceil<date::days>(kLookAhead);
  for (date::local_days day = from; day <= last;) {
    const date::year_month_day ymd(day);
    if (!has_bit(fields.months, unsigned{ymd.month()})) {
      day = date::local_days((ymd.year() / ymd.month() + date::months(1)) / date::day(1));
      continue;
    }
    if (fits(fields, day)) return day;
    day += date::days(1);
  }
  return std::nullopt;
}

}  // namespace

Result<Cron> Cron::parse(std::string_view text) {
  if (text.size() > kLongestCron) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("cron: longer than {} characters", kLongestCron));
  }
  const auto* const known = std::ranges::find(kShorthands, text, &Shorthand::word);
  if (known != kShorthands.end()) text = known->meaning;
  std::vector<std::string_view> words = split_at(text, " \t");
  std::erase(words, "");
  if (words.size() != kFields.size()) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("cron: '{}' has {} field{}; write minute, hour, day of the month, "
                              "month and day of the week, as in '0 2 * * *', or @daily",
                              printable(text, 64), words.size(), words.size() == 1 ? "" : "s"));
  }
  std::array<std::uint64_t, kFields.size()> bits{};
  for (std::size_t i = 0; i < kFields.size(); ++i) bits[i] = TRY(field_bits(words[i], kFields[i]));
  const std::uint64_t sunday_again = bits[4] >> 7U;
  const Fields fields{.minutes = bits[0],
                      .hours = bits[1],
                      .days = bits[2],
                      .months = bits[3],
                      .weekdays = (bits[4] & 0x7fU) | sunday_again,
                      .any_day = words[2].starts_with('*'),
                      .any_weekday = words[4].starts_with('*')};
  if (!ever_comes(fields))
    return wrong_field(kFields[2], words[2], "never comes in the months that are named");
  return Cron(fields);
}

std::optional<WallTime> Cron::next(const TimeZone& zone, WallTime after) const {
  return fields_.hours == kEveryHour ? next_by_time(zone, after) : next_by_clock(zone, after);
}

// What the clock shows never runs behind what it showed earlier, once times that come twice are
// taken for their first: the first time that is late enough is the next one.
std::optional<WallTime> Cron::next_by_clock(const TimeZone& zone, WallTime after) const {
  const auto shown = zone.rules().to_local(date::floor<seconds>(after));
  for (auto day = next_day(fields_, date::floor<date::days>(shown)); day;
       day = next_day(fields_, *day + date::days(1))) {
    for (unsigned hour = 0; hour < 24; ++hour) {
      if (!has_bit(fields_.hours, hour)) continue;
      for (unsigned minute = 0; minute < 60; ++minute) {
        const auto at = *day + hours(hour) + minutes(minute) + seconds(0);
        if (!has_bit(fields_.minutes, minute) || at <= shown) continue;
        const WallTime due = zone.rules().to_sys(at, date::choose::earliest);
        if (due > after) return due;
      }
    }
  }
  return std::nullopt;
}

std::optional<WallTime> Cron::next_by_time(const TimeZone& zone, WallTime after) const {
  auto at = date::floor<minutes>(after) + minutes(1);
  while (true) {
    const auto shown = zone.rules().to_local(at + seconds(0));
    const auto day = date::floor<date::days>(shown);
    if (!fits(fields_, day)) {
      const auto next = next_day(fields_, day + date::days(1));
      if (!next) return std::nullopt;
      const auto begins = zone.rules().to_sys(*next + seconds(0), date::choose::earliest);
      at = std::max(at + minutes(1), date::floor<minutes>(begins));
      continue;
    }
    const auto minute = date::floor<minutes>(shown - day).count() % 60;
    if (has_bit(fields_.minutes, static_cast<unsigned>(minute))) return at;
    at += minutes(1);
  }
}

}  // namespace mayfly
