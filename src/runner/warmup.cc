#include "runner/warmup.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

// Inputs beyond this are not generated: a model that needs them brings a warmup.bin.
constexpr std::uint64_t kMaxRequestBytes = 256ULL << 20;

std::uint64_t zero_bytes(DataType type, std::uint64_t elements) {
  return elements * (type == DataType::Bytes ? sizeof(std::uint32_t) : element_size(type));
}

TensorSlot slot_of(std::uint32_t index, DataType type) {
  TensorSlot slot{};
  slot.index = index;
  slot.type = static_cast<std::uint8_t>(type);
  return slot;
}

Result<Region> region_of(std::span<const std::byte> image) {
  Region region = TRY(Region::anonymous(image.size() + kInstanceRegion));
  std::ranges::copy(image, region.bytes().begin());
  return region;
}

}  // namespace

std::vector<std::byte> make_request_image(const RequestLayout& layout) {
  std::vector<std::byte> image(layout.request_bytes());
  RegionHeader header{};
  header.magic = kRegionMagic;
  header.format = 1;
  header.input_count = static_cast<std::uint32_t>(layout.inputs().size());
  header.output_count = static_cast<std::uint32_t>(layout.outputs().size());
  header.request_bytes = layout.request_bytes();
  header.outputs_offset = layout.request_bytes();
  std::byte* out = image.data();
  const auto put = [&out](const auto& value) {
    std::memcpy(out, &value, sizeof value);
    out += sizeof value;
  };
  put(header);
  for (std::size_t i = 0; i < layout.inputs().size(); ++i) {
    const InputPlan& input = layout.inputs()[i];
    TensorSlot slot = slot_of(input.index, input.type);
    slot.rank = static_cast<std::uint8_t>(input.shape.size());
    std::ranges::copy(input.shape, slot.dims.begin());
    slot.offset = layout.input_offset(i);
    slot.bytes = input.bytes;
    put(slot);
  }
  for (const std::uint32_t output : layout.outputs()) put(slot_of(output, DataType::Fp32));
  return image;
}

Result<std::vector<std::byte>> make_zero_request(const Signature& signature) {
  std::vector<InputPlan> inputs;
  std::uint64_t total = 0;
  for (std::uint32_t i = 0; i < signature.inputs.size(); ++i) {
    const TensorSpec& spec = signature.inputs[i];
    InputPlan input{.index = i, .type = spec.type, .shape = spec.shape};
    std::ranges::replace(input.shape, -1, 1);
    const std::uint64_t elements = TRY(element_count(input.shape));
    if (elements > kMaxRequestBytes)
      return refuse(reason::kTooLarge, "the input is too large to generate");
    input.bytes = zero_bytes(spec.type, elements);
    total += input.bytes;
    inputs.push_back(std::move(input));
  }
  if (total > kMaxRequestBytes)
    return refuse(reason::kTooLarge, "the inputs are too large to generate");
  std::vector<std::uint32_t> outputs(signature.outputs.size());
  std::iota(outputs.begin(), outputs.end(), 0U);
  return make_request_image(TRY(RequestLayout::plan(std::move(inputs), std::move(outputs))));
}

Result<Region> make_warmup_region(const Path& artifact, const Signature& signature) {
  if (auto stored = read_warmup_region(artifact)) return stored;
  return region_of(TRY(make_zero_request(signature)));
}

Result<Region> read_warmup_region(const Path& artifact) {
  const std::string stored = TRY(read_file(artifact / "warmup.bin", kMaxRequestBytes));
  return region_of(std::as_bytes(std::span(stored)));
}

}  // namespace mayfly
