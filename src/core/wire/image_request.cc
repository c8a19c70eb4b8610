#include "core/wire/image_request.h"

#include <fmt/format.h>

#include <span>

#include "core/reason.h"

namespace mayfly {
namespace {

bool is_channels(std::int64_t dimension) {
  return dimension == 1 || dimension == 3 || dimension == 4;
}

bool is_extent(std::int64_t dimension) { return dimension == -1 || dimension > 0; }

std::optional<std::uint32_t> extent(std::int64_t dimension) {
  if (dimension == -1) return std::nullopt;
  return static_cast<std::uint32_t>(dimension);
}

}  // namespace

std::optional<ImageInput> image_input(const TensorSpec& spec) {
  if (spec.type != DataType::Uint8 && spec.type != DataType::Fp32) return std::nullopt;
  std::span<const std::int64_t> dims = spec.shape;
  if (dims.size() == 4 && (dims[0] == 1 || dims[0] == -1)) dims = dims.subspan(1);
  if (dims.size() != 3) return std::nullopt;
  const bool first = is_channels(dims[0]);
  if (!first && !is_channels(dims[2])) return std::nullopt;
  const std::int64_t height = first ? dims[1] : dims[0];
  const std::int64_t width = first ? dims[2] : dims[1];
  if (!is_extent(height) || !is_extent(width) || height > INT32_MAX || width > INT32_MAX) {
    return std::nullopt;
  }
  return ImageInput{.type = spec.type,
                    .order = first ? ChannelOrder::First : ChannelOrder::Last,
                    .channels = static_cast<std::uint32_t>(first ? dims[0] : dims[2]),
                    .height = extent(height),
                    .width = extent(width),
                    .rank = spec.shape.size()};
}

Shape image_shape(const ImageInput& input, std::uint32_t height, std::uint32_t width) {
  Shape shape = input.order == ChannelOrder::First ? Shape{input.channels, height, width}
                                                   : Shape{height, width, input.channels};
  if (input.rank == 4) shape.insert(shape.begin(), 1);
  return shape;
}

Result<InferRequest> image_request(std::uint64_t body_bytes, const Signature& signature) {
  if (signature.inputs.size() != 1 || !image_input(signature.inputs.front())) {
    return refuse(reason::kUnsupportedMedia,
                  "image bodies need a model with one image-like input (rank 3 or 4; 1, 3 or 4 "
                  "channels first or last; UINT8 or FP32); send its inputs as JSON");
  }
  if (body_bytes == 0 || body_bytes > INT64_MAX) {
    return refuse_input(signature.inputs.front().name, "the image is empty");
  }
  InferRequest request;
  request.binary_bytes = body_bytes;
  request.inputs.push_back({.name = signature.inputs.front().name,
                            .type = DataType::Uint8,
                            .form = InputForm::EncodedImage,
                            .source = InputSource::Raw,
                            .shape = {static_cast<std::int64_t>(body_bytes)},
                            .bytes = body_bytes});
  for (std::uint32_t i = 0; i < signature.outputs.size(); ++i) request.outputs.push_back({i});
  return request;
}

}  // namespace mayfly
