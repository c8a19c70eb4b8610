// sketches.bin: what is taken is written as the same bytes.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runner/ingest/statistics.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mayfly;
  const auto columns = parse_sketches({reinterpret_cast<const char*>(data), size});
  if (!columns) {
    CHECK(columns.error().code == Code::DataLoss);
    return 0;
  }
  for (const ColumnStatistics& column : *columns) {
    ColumnStatistics both = column;
    both.merge(column);
    (void)both.describe({.name = "x", .type = column.type(), .categories = {"a"}});
  }
  return 0;
}
