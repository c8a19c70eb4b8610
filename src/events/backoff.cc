#include "events/backoff.h"

#include <algorithm>

namespace mayfly {

Duration wait_after(const Backoff& backoff, std::uint32_t failures, std::uint64_t random) {
  Duration bound = backoff.first;
  for (std::uint32_t i = 1; i < failures && bound < backoff.longest; ++i) bound *= 2;
  bound = std::min(bound, backoff.longest);
  // The high half of a product of 128 bits: as even as `random`, without a division.
  const auto span = static_cast<unsigned __int128>(bound.count()) + 1;
  return Duration(static_cast<std::int64_t>(span * random >> 64));
}

}  // namespace mayfly
