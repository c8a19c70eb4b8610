// What an ingest leaves, and what a client asks of one: what is taken is written so that it is the
// same again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "runner/report/dataset_schema.h"
#include "runner/report/ingest_job.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mayfly;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto schema = parse_dataset_schema(text)) {
    const auto again = parse_dataset_schema(to_json(*schema));
    CHECK(again && again->columns.size() == schema->columns.size());
    (void)check_statistics(text, *schema);
  }
  if (const auto report = parse_ingest_report(text)) {
    const auto again = parse_ingest_report(to_json(*report));
    CHECK(again && again->shown.size() == report->shown.size());
  }
  if (const auto job = parse_ingest_job(text); job && *job)
    CHECK(parse_ingest_job(to_json(**job)).has_value());
  (void)parse_ingest_progress(text);
  return 0;
}
