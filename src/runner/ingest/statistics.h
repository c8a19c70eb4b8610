// What there is to say of a column's values, in one pass and bounded memory; and as bytes, so that
// what is appended later is added to it. They are what drift is measured against.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/json_reader.h"
#include "runner/ingest/conversion.h"
#include "sketch/distinct_sketch.h"
#include "sketch/quantile_sketch.h"
#include "sketch/top_values.h"

namespace mayfly {

class ColumnStatistics {
 public:
  explicit ColumnStatistics(ColumnType type) : type_(type) {}

  void see(const ColumnValues& values, const std::vector<bool>& good);
  void merge(const ColumnStatistics& other);  // of the same type
  // As statistics.json has it. Figures of a text are those of its length in characters.
  Json describe(const SchemaColumn& column) const;

  void append_to(std::string& out) const;
  static Result<ColumnStatistics> parse(ByteReader& reader);
  ColumnType type() const { return type_; }

 private:
  void see_number(double value);
  void see_value(const ColumnValues& values, std::size_t row);
  Json top(const SchemaColumn& column) const;
  Json extreme(double edge, std::int64_t exact) const;

  ColumnType type_;
  std::uint64_t count_ = 0;  // with a value
  std::uint64_t missing_ = 0;
  std::uint64_t infinite_ = 0;
  double mean_ = 0;  // Welford's, of what is finite
  double squares_ = 0;
  std::int64_t least_ = INT64_MAX;  // of integers and dates, exactly
  std::int64_t greatest_ = INT64_MIN;
  QuantileSketch quantiles_;
  DistinctSketch distinct_;
  TopValues top_;
  std::vector<std::uint64_t> categories_;  // by code
};

// The whole snapshot's: sketches.bin.
std::string sketches_of(const std::vector<ColumnStatistics>& columns);
Result<std::vector<ColumnStatistics>> parse_sketches(std::string_view bytes);

}  // namespace mayfly
