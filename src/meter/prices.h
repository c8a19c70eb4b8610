// From usage to a bill, in integers. Prices and amounts are in billionths ("nano") of a unit that
// the operator chooses: a currency, credits, nothing. The table:
//
//   what                     measured as                                       default price
//   memory                   GiB-seconds: memory limit × run time               16'667 nano each
//   processor                CPU-seconds: CPU time of the instance              20'000 nano each
//   requests                 served by an instance, retries not counted    200'000'000 a million
//
// Not billed: waiting in a queue, starting an instance, refused requests.
// Each line is one version of one function; its three amounts are rounded once, half up, and the
// total is the sum of the lines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "meter/usage.h"

namespace mayfly {

struct Prices {
  std::uint64_t gib_second = 16'667;
  std::uint64_t cpu_second = 20'000;
  std::uint64_t million_requests = 200'000'000;
};

struct BillLine {
  std::string project;
  std::string function;
  std::uint32_t version = 0;
  Usage usage;  // over the whole period
  Uint128 memory_cost = 0;
  Uint128 cpu_cost = 0;
  Uint128 request_cost = 0;
  Uint128 cost() const { return memory_cost + cpu_cost + request_cost; }
};

struct Bill {
  std::vector<BillLine> lines;  // by project, function, version
  Uint128 total = 0;
};

Bill make_bill(const UsageTable& usage, const Prices& prices);

// Nano as a decimal number with all nine places: 16'667 is "0.000016667".
std::string decimal(Uint128 nano);

}  // namespace mayfly
