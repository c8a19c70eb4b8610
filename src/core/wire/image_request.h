// image/png and image/jpeg bodies: for models with one image-like input. The server only recognises
// such an input and passes the file on; pixels are decoded inside the jail (runner/image.h).
//
// Image-like: rank 3 or 4, a batch dimension of 1 or -1 where there are four, 1, 3 or 4 channels
// first or last, UINT8 or FP32. Where channels first and last both read so, first wins.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "core/tensor.h"
#include "core/wire/infer_request.h"

namespace mayfly {

enum class ChannelOrder : std::uint8_t { First, Last };  // NCHW, NHWC

// How pixels become this input. UINT8 takes 0..255, FP32 the same divided by 255: 0..1; whatever
// else a model wants (means, deviations) belongs into its graph.
struct ImageInput {
  DataType type = DataType::Uint8;
  ChannelOrder order = ChannelOrder::First;
  std::uint32_t channels = 3;  // 1 grey, 3 RGB, 4 RGBA
  // Images are resized to these; nullopt: the model takes any, the image keeps its own.
  std::optional<std::uint32_t> height;
  std::optional<std::uint32_t> width;
  std::size_t rank = 4;
};

// nullopt: not image-like.
std::optional<ImageInput> image_input(const TensorSpec& spec);
// The shape of the tensor that an image of this size becomes.
Shape image_shape(const ImageInput& input, std::uint32_t height, std::uint32_t width);

// A body of `body_bytes` as the encoded image for the signature's only input: one input of form
// EncodedImage, UINT8 [body_bytes], source Raw; outputs as JSON.
Result<InferRequest> image_request(std::uint64_t body_bytes, const Signature& signature);

}  // namespace mayfly
