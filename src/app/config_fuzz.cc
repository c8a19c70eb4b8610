// A node's TOML file: whatever parses has known keys only, and is a configuration or an error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "app/config.h"
#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto values = mayfly::parse_config(text, "mayfly.toml");
  if (!values) {
    CHECK(!values.error().message.empty());
    return 0;
  }
  const auto config = mayfly::make_config({*values});
  if (config) CHECK(*config == *mayfly::make_config({*values, *values}));
  return 0;
}
