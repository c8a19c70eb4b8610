// Input: byte 0 picks a signature, the rest is the body. Whatever decodes fits the signature, has
// as many rows as it says, and reads without leaving its memory.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "core/wire/tf_request.h"

using namespace mayfly;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto type = static_cast<DataType>(1 + data[0] % 14);
  const Shape shape(data[0] / 14 % 5, -1);
  Signature model{.inputs = {{"x", type, shape}}, .outputs = {{"y", DataType::Fp32, {-1}}}};
  if (data[0] >= 128) model.inputs.push_back({"s", DataType::Bytes, {-1}});
  static JsonParser parser;
  std::string body(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto request =
      decode_tf_request(parser, std::move(body), model, {.bytes = 1 << 20, .setting = "max_body"});
  if (!request) return 0;
  CHECK(request->inputs.size() == model.inputs.size());
  for (const InferInput& input : request->inputs) {
    CHECK(fits(input.shape, model.inputs.at(input.index)));
    if (request->instances) {
      CHECK(static_cast<std::uint64_t>(input.shape.at(0)) == *request->instances);
    }
    std::vector<std::byte> memory(input.bytes);
    if (!read_json_input(input, memory)) continue;
    CHECK(check_received_input(input, memory).has_value());
  }
  return 0;
}
