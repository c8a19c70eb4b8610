// Reports and messages come from the jail: whatever parses must survive a round trip, or be within
// its bounds.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runner/report/report.h"
#include "runner/report/resolve_job.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto outcome = mayfly::parse_outcome(text)) {
    const auto again = mayfly::parse_outcome(mayfly::to_json(*outcome));
    CHECK(again.has_value());
    CHECK(*again == *outcome);
  }
  if (const auto request = mayfly::parse_connect_request(text))
    CHECK(!request->host.empty() && request->port > 0);
  (void)mayfly::parse_resolved(text);
  return 0;
}
