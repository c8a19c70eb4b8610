// Reports and messages come from the jail: whatever parses must survive a round trip, or be within
// its bounds.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runner/report/batch_job.h"
#include "runner/report/report.h"
#include "runner/report/resolve_job.h"
#include "runner/report/train_job.h"

namespace {

// What parses is what is written of it.
template <typename Parse>
void round_trip(std::string_view text, Parse parse) {
  const auto value = parse(text);
  if (!value) return;
  const auto again = parse(mayfly::to_json(*value));
  CHECK(again.has_value());
  CHECK(*again == *value);
}

}  // namespace

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
  round_trip(text, mayfly::parse_worker_message);
  round_trip(text, mayfly::parse_slice_end);
  if (const auto end = mayfly::parse_train_end(text))
    CHECK(mayfly::parse_train_end(mayfly::to_json(*end)).has_value());
  if (const auto job = mayfly::parse_train_job(text); job && *job)
    CHECK(*mayfly::parse_train_job(mayfly::to_json(**job)) == *job);
  if (const auto job = mayfly::parse_batch_job(text); job && *job)
    CHECK(*mayfly::parse_batch_job(mayfly::to_json(**job)) == *job);
  if (const auto job = mayfly::parse_merge_job(text); job && *job)
    CHECK(*mayfly::parse_merge_job(mayfly::to_json(**job)) == *job);
  return 0;
}
