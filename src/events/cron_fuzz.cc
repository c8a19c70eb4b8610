// Schedules of strangers: what parses has a next run, which is later, or none.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "events/cron.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto kZone = mayfly::TimeZone::find("Europe/Berlin");
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto cron = mayfly::Cron::parse(text);
  if (!cron || !kZone) return 0;
  mayfly::WallTime at{std::chrono::days(20'540)};
  for (int i = 0; i < 4; ++i) {
    const auto next = cron->next(*kZone, at);
    if (!next) break;
    CHECK(*next > at);
    at = *next;
  }
  return 0;
}
