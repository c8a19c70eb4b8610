// Input: byte 0 picks a signature, the rest is the body. Whatever decodes fits the signature and
// reads without leaving its memory.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "core/wire/plain_request.h"

using namespace mayfly;

namespace {

void check_decoded(const Result<InferRequest>& request, const Signature& model) {
  if (!request) return;
  CHECK(request->inputs.size() == model.inputs.size());
  for (const InferInput& input : request->inputs) {
    CHECK(fits(input.shape, model.inputs.at(input.index)));
    std::vector<std::byte> memory(input.bytes);
    if (!read_json_input(input, memory)) continue;
    CHECK(check_received_input(input, memory).has_value());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto type = static_cast<DataType>(1 + data[0] % 14);
  const Shape shape(data[0] / 14 % 5, -1);
  Signature model{.inputs = {{"x", type, shape}}, .outputs = {{"y", DataType::Fp32, {-1}}}};
  if (data[0] >= 128) model.inputs.push_back({"s", DataType::Bytes, {-1}});
  static JsonParser parser;
  const std::string body(reinterpret_cast<const char*>(data + 1), size - 1);
  constexpr SizeLimit kLimit{.bytes = 1 << 20, .setting = "max_body"};
  check_decoded(decode_plain_request(parser, body, model, kLimit), model);
  check_decoded(decode_generate_request(parser, body, model, kLimit), model);
  return 0;
}
