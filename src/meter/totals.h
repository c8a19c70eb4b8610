// The sealed hourly totals of one ledger segment. They are written when the segment is complete and
// say which segment they cover; from then on usage is read from them, whether or not the segment
// itself has been pruned, so that the usage of a past period never changes.
//
// The file, all integers little-endian:
//
//   offset  bytes
//        0      8  "mayflyT3"
//        8      4  CRC-32 of everything after it
//       12      8  number of the segment
//       20      8  records in it
//       28   2×8  earliest and latest time, nanoseconds since 1970
//       44      4  rows; each:
//                    8  hour since 1970
//                    4  version
//                 14×8  requests, attempts, errors, refused, starts (4), queue, start, run, cpu µs,
//                       bytes in, bytes out
//                    8  µs that functions waited for those they called
//                 2×16  memory time and shadows' part of it, byte-microseconds
//                       project, function: a length byte and the text each
//
// A file that begins with "mayflyT2" has no such waits; one that begins with "mayflyT1" neither has
// a part of shadows: what they used is among the rest.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "meter/usage.h"

namespace mayfly {

struct SegmentTotals {
  std::uint64_t segment = 0;
  std::uint64_t records = 0;
  WallTime earliest = WallTime::max();
  WallTime latest = WallTime::min();
  UsageTable usage;

  void add(const InvocationRecord& record);
  bool operator==(const SegmentTotals&) const = default;
};

std::string encode_totals(const SegmentTotals& totals);
Result<SegmentTotals> decode_totals(std::span<const std::byte> bytes);  // data_loss

}  // namespace mayfly
