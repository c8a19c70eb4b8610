#include "serving/tensor_memory.h"

#include <algorithm>
#include <utility>

namespace mayfly {

Result<RequestMemory> allocate_request(const InferRequest& request, std::uint64_t output_bytes) {
  std::vector<InputPlan> plans;
  for (const InferInput& input : request.inputs) {
    plans.push_back({.index = input.index,
                     .type = input.type,
                     .shape = input.shape,
                     .bytes = input.bytes,
                     .form = input.form});
  }
  std::vector<std::uint32_t> outputs;
  for (const InferOutput& output : request.outputs) outputs.push_back(output.index);
  RequestLayout layout = TRY(RequestLayout::plan(std::move(plans), std::move(outputs)));
  return RequestMemory::allocate(std::move(layout), output_bytes);
}

bool sorts_much(const InferRequest& request, const Reply& reply) {
  constexpr std::uint64_t kMuch = 64 * 1024;
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < reply.outputs.size(); ++i)
    bytes += request.outputs[i].classes > 0 ? reply.outputs[i].bytes.size() : 0;
  return bytes > kMuch;
}

ReplyTensors::ReplyTensors(const InferRequest& request, const Signature& signature,
                           const Reply& reply) {
  tensors_.reserve(reply.outputs.size());
  const auto is_classified = [](const InferOutput& output) { return output.classes > 0; };
  // Their addresses stay: the tensors look into them.
  classified_.reserve(
      static_cast<std::size_t>(std::ranges::count_if(request.outputs, is_classified)));
  for (std::size_t i = 0; i < reply.outputs.size(); ++i) {
    const OutputView& output = reply.outputs[i];
    ReplyTensor tensor{.name = signature.outputs[output.index].name,
                       .type = output.type,
                       .shape = output.shape,
                       .bytes = output.bytes,
                       .form = request.outputs[i].form,
                       .shared = request.outputs[i].shared ? &*request.outputs[i].shared : nullptr};
    if (is_classified(request.outputs[i])) {
      const Classified& classified = classified_.emplace_back(
          classify(output.type, output.shape, output.bytes, request.outputs[i].classes));
      tensor.type = DataType::Bytes;
      tensor.shape = classified.shape;
      tensor.bytes = classified.bytes;
    }
    tensors_.push_back(tensor);
  }
}

}  // namespace mayfly
