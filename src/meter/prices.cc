#include "meter/prices.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace mayfly {
namespace {

constexpr Uint128 kMicrosPerSecond = 1'000'000;
constexpr Uint128 kGib = Uint128{1} << 30;

// amount × price ÷ unit, rounded half up. Split so that no product leaves 128 bits: the remainder
// is below 2^50, a price below 2^64.
Uint128 charge(Uint128 amount, std::uint64_t price, Uint128 unit) {
  return amount / unit * price + (amount % unit * price + unit / 2) / unit;
}

}  // namespace

Bill make_bill(const UsageTable& usage, const Prices& prices) {
  std::map<std::tuple<std::string, std::string, std::uint32_t>, Usage> sums;
  for (const auto& [key, row] : usage.rows()) {
    sums[{key.project, key.function, key.version}].add(row);
  }
  Bill bill;
  for (const auto& [key, sum] : sums) {
    const auto& [project, function, version] = key;
    bill.lines.push_back(
        {.project = project,
         .function = function,
         .version = version,
         .usage = sum,
         .memory_cost = charge(sum.memory_time, prices.gib_second, kGib * kMicrosPerSecond),
         .cpu_cost = charge(sum.cpu_us, prices.cpu_second, kMicrosPerSecond),
         .request_cost = charge(sum.requests, prices.million_requests, 1'000'000)});
    bill.total += bill.lines.back().cost();
  }
  return bill;
}

std::string decimal(Uint128 nano) {
  std::string digits;
  for (; nano > 0 || digits.size() < 10; nano /= 10) {
    if (digits.size() == 9) digits += '.';
    digits += static_cast<char>('0' + static_cast<int>(nano % 10));
  }
  std::ranges::reverse(digits);
  return digits;
}

}  // namespace mayfly
