// Any bytes: never a crash; what decodes must encode to the same payload.
#include "meter/record.h"

#include <algorithm>
#include <cstdlib>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mayfly;
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto framed = intact_frame(bytes);
  // Behind the checksum only a fuzzer that forges it would come: feed the decoder directly too.
  for (const auto payload : {framed.value_or(bytes), bytes}) {
    const auto record = decode_record(payload);
    if (!record) continue;
    std::string frames;
    encode_record(*record, frames);
    const auto again = intact_frame(std::as_bytes(std::span(frames)));
    if (!again || !std::ranges::equal(*again, payload)) std::abort();
  }
  return 0;
}
