// Arrow's dates as models learn them: milliseconds since 1970, UTC. What is finer is cut off,
// towards the past.
#pragma once

#include <arrow/array/array_primitive.h>

#include <cstdint>
#include <optional>

namespace mayfly {

std::int64_t milliseconds_of(const arrow::Date32Array& array, std::int64_t row);
// nullopt: beyond what 64 bits hold.
std::optional<std::int64_t> milliseconds_of(const arrow::TimestampArray& array, std::int64_t row);

}  // namespace mayfly
