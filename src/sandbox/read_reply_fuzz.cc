// A reply as a hostile instance leaves it: the input lies over the region from the header's reply
// fields on. What is accepted lies within the region and is what its shape says.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "sandbox/channel.h"

namespace {

using namespace mayfly;

const Signature kSignature{.inputs = {{"x", DataType::Fp32, {-1}}},
                           .outputs = {{"y", DataType::Fp32, {-1}}, {"z", DataType::Bytes, {-1}}}};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Region region = Region::anonymous(4096).value();
  std::ranges::fill(region.bytes(), std::byte{0});
  RequestMemory request =
      RequestMemory::allocate(RequestLayout::plan({{0, DataType::Fp32, {1}, 4}}, {0, 1}).value(), 0)
          .value();
  request.place(region.bytes());
  constexpr std::size_t kBegin = offsetof(RegionHeader, status);
  std::memcpy(region.bytes().data() + kBegin, data, std::min(size, region.size() - kBegin));
  const auto reply = read_reply(region.bytes(), region.bytes(), request.layout(), kSignature);
  if (!reply) {
    CHECK(reply.error().message.size() <= 2 * kMaxErrorText);
    return 0;
  }
  CHECK(reply->size() == 2);
  std::size_t total = 0;
  for (const OutputView& output : *reply) {
    CHECK(output.bytes.data() >= region.bytes().data());
    CHECK(output.bytes.data() + output.bytes.size() <= region.bytes().data() + region.size());
    CHECK(output.type == kSignature.outputs.at(output.index).type);
    total += output.bytes.size();
  }
  CHECK(total <= region.size());
  return 0;
}
