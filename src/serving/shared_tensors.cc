#include "serving/shared_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

Result<ClientRegionRef> region_of(const ClientMemory& memory, std::string_view project,
                                  const std::optional<SharedRange>& shared) {
  if (!shared) return nullptr;
  ClientRegionRef region = TRY(memory.find(project, shared->region));
  TRY(region->check(shared->offset, shared->size));
  return region;
}

}  // namespace

Result<SharedTensors> SharedTensors::find(const ClientMemory& memory, std::string_view project,
                                          const InferRequest& request, const Signature& signature) {
  SharedTensors found;
  const auto is_shared = [](const auto& tensor) { return tensor.shared.has_value(); };
  if (std::ranges::none_of(request.inputs, is_shared) &&
      std::ranges::none_of(request.outputs, is_shared))
    return found;  // as nearly always
  for (const InferInput& input : request.inputs) {
    auto region = region_of(memory, project, input.shared);
    if (!region) return std::unexpected(region.error().in(fmt::format("input '{}'", input.name)));
    found.input_bytes_ += *region ? input.bytes : 0;
    found.inputs_.push_back(*std::move(region));
  }
  for (const InferOutput& output : request.outputs) {
    auto region = region_of(memory, project, output.shared);
    if (!region) {
      return std::unexpected(
          region.error().in(fmt::format("output '{}'", signature.outputs.at(output.index).name)));
    }
    found.has_outputs_ = found.has_outputs_ || *region != nullptr;
    found.outputs_.push_back(*std::move(region));
  }
  return found;
}

Status SharedTensors::hold(BodyBudget::Hold& held, std::uint64_t others) const {
  const std::uint64_t bytes = input_bytes_ + others;
  if (input_bytes_ == 0 || bytes <= BodyBudget::kUncounted.count || held.grow_to(Bytes{bytes}))
    return {};
  return refuse(reason::kNodeBusy,
                "the node holds as many bytes of requests as limits.body_memory allows");
}

Status SharedTensors::read(const InferRequest& request, RequestMemory& memory) const {
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i] == nullptr) continue;
    const InferInput& input = request.inputs[i];
    const Status read = inputs_[i]->read(input.shared->offset, memory.input(i));
    if (!read) return std::unexpected(read.error().in(fmt::format("input '{}'", input.name)));
    TRY(check_received_input(input, memory.input(i)));
  }
  return {};
}

Status SharedTensors::write(std::span<const ReplyTensor> tensors) const {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const ReplyTensor& tensor = tensors[i];
    if (tensor.shared == nullptr) continue;
    if (tensor.bytes.size() > tensor.shared->size) {
      return refuse(reason::kInvalidInput,
                    fmt::format("output '{}': has {} bytes, shared_memory_byte_size is {}",
                                tensor.name, tensor.bytes.size(), tensor.shared->size));
    }
    const Status written = outputs_.at(i)->write(tensor.shared->offset, tensor.bytes);
    if (!written)
      return std::unexpected(written.error().in(fmt::format("output '{}'", tensor.name)));
  }
  return {};
}

}  // namespace mayfly
