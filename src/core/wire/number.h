// One element of a dense tensor as a number, for statistics over values of any numeric type.
#pragma once

#include <cstddef>
#include <span>

#include "core/tensor.h"

namespace mayfly {

// Element `i`; integers beyond 2^53 are rounded, booleans are 0 and 1. Not of BYTES: those are 0.
double number_at(DataType type, std::span<const std::byte> bytes, std::size_t i);

}  // namespace mayfly
