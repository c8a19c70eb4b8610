// The classification extension: instead of an output's numbers, its highest ones with their places,
// as texts "value:index". Classes lie along the last dimension; each row of the others is judged
// for itself, so that [2,10] with N = 3 becomes [2,3].
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "core/tensor.h"

namespace mayfly {

// A BYTES tensor of its own.
struct Classified {
  Shape shape;
  std::vector<std::byte> bytes;
};

// The `classes` highest of each row, the highest first; of equal ones the one that stands first;
// not-a-number last. `bytes` may change while they are read. Not for BYTES.
Classified classify(DataType type, std::span<const std::int64_t> shape,
                    std::span<const std::byte> bytes, std::uint64_t classes);

}  // namespace mayfly
