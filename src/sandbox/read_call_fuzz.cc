// A call as a hostile instance leaves it. What is accepted lies within the region and is what its
// shape says; written again it is the same.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "sandbox/call_message.h"

using namespace mayfly;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Region region = Region::anonymous(4096).value();
  static const Region again = Region::anonymous(std::size_t{1} << 20U).value();
  std::ranges::fill(region.bytes(), std::byte{0});
  std::memcpy(region.bytes().data(), data, std::min(size, region.size()));
  const auto call = read_call(region.bytes());
  if (!call) return 0;
  std::size_t total = 0;
  for (const CallPart& part : call->parts) {
    CHECK(part.bytes.data() >= region.bytes().data());
    CHECK(part.bytes.data() + part.bytes.size() <= region.bytes().data() + region.size());
    CHECK(part.name.size() <= kMaxCallText && part.shape.size() <= kMaxRank);
    total += part.bytes.size();
  }
  CHECK(total <= region.size());
  if (call_bytes(*call) > again.size()) return 0;
  write_call(again.bytes(), *call);
  const auto copy = read_call(again.bytes());
  CHECK(copy.has_value() && copy->name == call->name && copy->parts.size() == call->parts.size());
  return 0;
}
