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

}  // namespace mayfly
