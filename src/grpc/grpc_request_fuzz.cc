// Input: byte 0 picks a signature, the rest is a ModelInferRequest. Whatever decodes must be
// consistent with itself and must fill exactly its memory.
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "grpc/infer_codec.h"

using namespace mayfly;

namespace {

constexpr SizeLimit kLimit{.bytes = 1 << 20, .setting = "max_body"};

Signature signature(std::uint8_t pick) {
  const auto type = static_cast<DataType>(1 + pick % 14);
  const Shape shape = pick < 64 ? Shape{-1} : pick < 128 ? Shape{-1, 3} : Shape{-1, 2, -1};
  return {.inputs = {{"x", type, shape}, {"s", DataType::Bytes, {-1}}},
          .outputs = {{"y", DataType::Fp32, {-1}}, {"z", DataType::Int64, {-1}}}};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const int length = static_cast<int>(size - 1);
  google::protobuf::io::ArrayInputStream stream(data + 1, length, 7);  // in small pieces
  if (!check_infer_message(stream)) return 0;
  inference::ModelInferRequest message;
  if (!message.ParseFromArray(data + 1, length)) return 0;
  CHECK(message.inputs_size() <= static_cast<int>(kMaxTensors));
  auto head = head_of(message);
  if (!head) return 0;
  const Signature model = signature(data[0]);
  const auto request = bind_infer_request(*head, model, kLimit);
  if (!request) return 0;
  CHECK(request->inputs.size() == model.inputs.size());
  CHECK(!request->outputs.empty() && request->outputs.size() <= model.outputs.size());
  GivenInput next;
  for (const InferInput& input : request->inputs) {
    const GivenInput given = next;
    ++next.input;
    if (input.source == InputSource::Shared) continue;  // of no message
    ++next.raw;
    CHECK(fits(input.shape, model.inputs.at(input.index)));
    std::vector<std::byte> memory(input.bytes);
    if (!fill_input(message, given, input, memory)) continue;
    CHECK(check_received_input(input, memory).has_value());
  }
  return 0;
}
