// What clients of the control API send, and what a manifest holds: texts that parse are checked
// values, and settings survive a round trip.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "core/manifest.h"
#include "core/settings.h"
#include "core/traffic.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto settings = mayfly::parse_settings(text)) {
    const auto again = mayfly::parse_settings(mayfly::to_json(*settings));
    CHECK(again.has_value());
    CHECK(*again == *settings);
  }
  (void)mayfly::apply_settings({}, text);
  if (const auto options = mayfly::parse_version_options(text)) CHECK(options->threads <= 64);
  if (const auto files = mayfly::parse_artifact_files(text)) {
    for (const auto& file : *files) CHECK(mayfly::check_artifact_path(file.path).has_value());
  }
  if (const auto manifest = mayfly::parse_manifest(text)) {
    CHECK(mayfly::parse_manifest(mayfly::to_json(*manifest)).has_value());
  }
  if (const auto traffic = mayfly::parse_traffic(text)) {
    CHECK(mayfly::parse_traffic(mayfly::to_json(*traffic)) == *traffic);
    if (traffic->split()) CHECK(mayfly::choose(traffic->weights, size).value > 0);
  }
  if (const auto routing = mayfly::parse_routing(text)) {
    CHECK(mayfly::parse_routing(mayfly::to_json(*routing)) == *routing);
  }
  return 0;
}
