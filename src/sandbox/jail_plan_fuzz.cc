// A plan that decodes validates, has every layer and encodes to the same bytes again.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "sandbox/jail_plan.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto plan = mayfly::decode_plan(bytes);
  if (!plan) return 0;
  CHECK(plan->layers() == mayfly::LayerSet::all());
  const auto again = mayfly::encode_plan(*plan);
  CHECK(again.has_value());
  CHECK(again->size() == size && std::equal(again->begin(), again->end(), bytes.begin()));
  return 0;
}
