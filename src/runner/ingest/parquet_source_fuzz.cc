// Parquet: rows that are as many as the file says, or a refusal. The library throws, and ingest
// catches what it does.
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string_view>

#include "base/check.h"
#include "runner/ingest/testing/taken_bytes.h"

// A size that the file invents is memory that is not there, as it is in a jail.
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1:max_allocation_size_mb=1024";
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mayfly;
  if (size > kMostTakenBytes) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const IngestOptions options{.format = SourceFormat::Parquet};
  const auto see = [](const RowSource&, const SourceBlock& block) {
    for (const SourceRow& row : block.rows) CHECK(row.line == 0);
    CHECK(block.failures.empty());
  };
  try {
    const auto taken = take_bytes(bytes, options, see);
    if (!taken) check_refusal(taken.error());
  } catch (const std::exception& e) {
    CHECK(!std::string_view(e.what()).empty());
  }
  return 0;
}
