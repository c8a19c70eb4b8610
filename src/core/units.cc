#include "core/units.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <span>

#include "core/reason.h"

namespace mayfly {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

// From the largest: the first that divides exactly is the shortest form.
constexpr auto kTimes = std::to_array<Unit>({{"h", 3'600'000'000'000},
                                             {"m", 60'000'000'000},
                                             {"s", 1'000'000'000},
                                             {"ms", 1'000'000},
                                             {"us", 1'000},
                                             {"ns", 1}});
constexpr auto kSizes = std::to_array<Unit>({{"TiB", 1ULL << 40},
                                             {"GiB", 1ULL << 30},
                                             {"MiB", 1ULL << 20},
                                             {"KiB", 1ULL << 10},
                                             {"TB", 1'000'000'000'000},
                                             {"GB", 1'000'000'000},
                                             {"MB", 1'000'000},
                                             {"KB", 1'000},
                                             {"B", 1}});

Result<std::uint64_t> parse(std::string_view text, std::span<const Unit> units,
                            std::string_view example) {
  std::uint64_t number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view suffix(rest, text.data() + text.size());
  for (const Unit& unit : units) {
    std::uint64_t value = 0;
    const bool known = suffix == unit.name || (suffix.empty() && number == 0);
    if (error == std::errc() && known && !__builtin_mul_overflow(number, unit.factor, &value) &&
        value <= INT64_MAX) {
      return value;
    }
  }
  return refuse(reason::kInvalidSetting,
                fmt::format("'{}' is not a quantity: write a whole number and a unit, as in {}",
                            text, example));
}

std::string print(std::uint64_t value, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (value >= unit.factor && value % unit.factor == 0) {
      return fmt::format("{}{}", value / unit.factor, unit.name);
    }
  }
  return fmt::format("0{}", units.back().name);
}

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  return Duration(static_cast<std::int64_t>(TRY(parse(text, kTimes, "250ms, 30s, 10m or 1h"))));
}

Result<Bytes> parse_bytes(std::string_view text) {
  return Bytes{TRY(parse(text, kSizes, "512MiB, 2GiB or 64KB"))};
}

std::string to_string(Duration duration) {
  return print(static_cast<std::uint64_t>(duration.count()), kTimes);
}

std::string to_string(Bytes bytes) { return print(bytes.count, kSizes); }

std::string format_time(WallTime time) {
  using namespace std::chrono;
  const auto day = floor<days>(time);
  const year_month_day date(day);
  const hh_mm_ss clock(floor<milliseconds>(time - day));
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     clock.subseconds().count());
}

Result<WallTime> parse_time(std::string_view text) {
  using namespace std::chrono;
  const auto bad = [&] {
    return refuse(reason::kBadRequest,
                  fmt::format("'{}' is not a time: write 2026-01-31T08:00:00Z, "
                              "or how long ago, as in 24h",
                              text));
  };
  // Fixed places: YYYY-MM-DDThh:mm:ss, then perhaps a fraction, then Z.
  std::array<int, 6> fields{};
  constexpr std::array<std::size_t, 6> kBegin = {0, 5, 8, 11, 14, 17};
  if (text.size() < 20 || text.size() > 30 || text.back() != 'Z' || text[4] != '-' ||
      text[7] != '-' || text[10] != 'T' || text[13] != ':' || text[16] != ':') {
    return bad();
  }
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const char* begin = text.data() + kBegin.at(i);
    const char* end = begin + (i == 0 ? 4 : 2);
    if (std::from_chars(begin, end, fields.at(i)).ptr != end) return bad();
  }
  Duration fraction{};
  if (text[19] != 'Z') {
    std::int64_t unit = 100'000'000;
    for (const char c : text.substr(20, text.size() - 21)) {
      if (text[19] != '.' || c < '0' || c > '9') return bad();
      fraction += Duration((c - '0') * unit);
      unit /= 10;
    }
  }
  const year_month_day date(year(fields[0]), month(static_cast<unsigned>(fields[1])),
                            day(static_cast<unsigned>(fields[2])));
  const bool in_range = fields[0] >= 1970 && fields[0] < 2200 && fields[3] >= 0 && fields[3] < 24 &&
                        fields[4] >= 0 && fields[4] < 60 && fields[5] >= 0 && fields[5] < 61;
  if (!date.ok() || !in_range) return bad();
  return WallTime(sys_days(date)) + hours(fields[3]) + minutes(fields[4]) + seconds(fields[5]) +
         fraction;
}

}  // namespace mayfly
