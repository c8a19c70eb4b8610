// Archives: whatever is taken is within its bounds, and is as long as it says.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "core/reason.h"
#include "runner/ingest/zip_archive.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mayfly;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const ZipLimits limits{.entries = 100, .expanded = 1 << 20U};
  const auto entries = read_zip(bytes, limits);
  if (!entries) {
    CHECK(entries.error().reason == reason::kInvalidInput);
    return 0;
  }
  CHECK(entries->size() <= limits.entries);
  for (const ZipEntry& entry : *entries) {
    CHECK(!entry.name.starts_with("/") && !entry.name.starts_with("../"));
    const auto content = read_entry(bytes, entry, 1 << 20U);
    if (content) CHECK(content->size() == entry.size);
  }
  return 0;
}
