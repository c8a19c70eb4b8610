// An instance's outputs are foreign bytes: byte 0 is the datatype, 1 and 2 the shape, the rest the
// tensor. Encoding ends with an error or within the limit, whatever they hold.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "core/wire/infer_reply.h"
#include "core/wire/plain_reply.h"

using namespace mayfly;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  constexpr SizeLimit kLimit{.bytes = 4096, .setting = "max_reply"};
  const Shape shape{data[1], data[2]};
  const ReplyTensor output{.name = "y",
                           .type = static_cast<DataType>(1 + data[0] % 14),
                           .shape = shape,
                           .bytes = std::as_bytes(std::span(data + 3, size - 3)),
                           .form = data[0] < 128 ? OutputForm::Json : OutputForm::Binary};
  const auto reply = encode_infer_reply(
      {.model_name = "m", .model_version = "1", .id = "", .outputs = {&output, 1}}, kLimit);
  if (reply) CHECK(reply->text.size() + reply->binary_bytes <= kLimit.bytes);
  const auto plain = encode_plain_reply({&output, 1}, kLimit);
  if (plain) CHECK(plain->size() <= kLimit.bytes);
  return 0;
}
