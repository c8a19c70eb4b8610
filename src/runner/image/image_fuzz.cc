// Byte 0 picks the model's input, the rest is the file. Whatever decodes is as large as its shape
// says, and no file makes the decoder allocate beyond its limits.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "runner/image/image.h"

using namespace mayfly;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  ImageInput input{.type = (data[0] & 1) != 0 ? DataType::Fp32 : DataType::Uint8,
                   .order = (data[0] & 2) != 0 ? ChannelOrder::First : ChannelOrder::Last,
                   .channels = (data[0] & 4) != 0   ? 1U
                               : (data[0] & 8) != 0 ? 4U
                                                    : 3U,
                   .height = {},
                   .width = {}};
  if ((data[0] & 16) != 0) input.width = input.height = 5;
  const auto image = decode_image(std::as_bytes(std::span(data + 1, size - 1)), input,
                                  {.extent = 256, .pixels = 16'384});
  if (!image) return 0;
  CHECK(image->bytes.size() == byte_count(input.type, image->shape).value());
  CHECK(image->bytes.size() <= std::size_t{16'384} * 4 * sizeof(float));
  return 0;
}
