// Headers of strangers.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "trace/trace_context.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto context = mayfly::parse_traceparent(text))
    CHECK(mayfly::parse_traceparent(mayfly::to_traceparent(*context)) == context);
  return 0;
}
