#include "runner/batch/arrow_date.h"

#include <arrow/type.h>

#include <chrono>

namespace mayfly {

using std::chrono::floor, std::chrono::milliseconds;

std::int64_t milliseconds_of(const arrow::Date32Array& array, std::int64_t row) {
  return milliseconds(std::chrono::days(array.Value(row))).count();
}

std::optional<std::int64_t> milliseconds_of(const arrow::TimestampArray& array, std::int64_t row) {
  const std::int64_t count = array.Value(row);
  switch (static_cast<const arrow::TimestampType&>(*array.type()).unit()) {
    case arrow::TimeUnit::SECOND: {
      std::int64_t all = 0;
      if (__builtin_mul_overflow(count, std::int64_t{1000}, &all)) break;
      return all;
    }
    case arrow::TimeUnit::MILLI:
      return count;
    case arrow::TimeUnit::MICRO:
      return floor<milliseconds>(std::chrono::microseconds(count)).count();
    case arrow::TimeUnit::NANO:
      return floor<milliseconds>(std::chrono::nanoseconds(count)).count();
  }
  return std::nullopt;
}

}  // namespace mayfly
