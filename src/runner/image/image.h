// PNG and JPEG files → the pixels of a model's input. Runs inside the jail: the libraries below
// read hostile files.
//
// Colours: grey is the luma of ITU-R BT.601; alpha is dropped where the model has no channel for it
// and full where the file has none. Orientation marks (EXIF) and colour profiles are not applied.
// Images of another size than the model's are resized, without keeping their proportions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "core/tensor.h"
#include "core/wire/image_request.h"

namespace mayfly {

// Checked against the file's header before anything is allocated for its pixels.
struct ImageLimits {
  std::uint32_t extent = 16'384;            // of either side
  std::uint64_t pixels = 32 * 1024 * 1024;  // of the file, and of the tensor
};

struct DecodedImage {
  Shape shape;
  std::vector<std::byte> bytes;
};

// `file` is recognised by its first bytes. Everything wrong with it is invalid_input, in words.
Result<DecodedImage> decode_image(std::span<const std::byte> file, const ImageInput& input,
                                  const ImageLimits& limits = {});

}  // namespace mayfly
