// 8-bit pixels in memory, and resizing them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mayfly {

struct Pixels {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint32_t channels = 0;
  std::vector<std::uint8_t> bytes;  // rows from the top, pixels from the left, channels interleaved

  const std::uint8_t* row(std::uint32_t y) const {
    return bytes.data() + std::size_t{y} * width * channels;
  }
};

// Bilinear; when it shrinks, every source pixel counts (a triangle filter as wide as the scale), as
// Pillow's and torchvision's antialiased resizing does. Sides are at least 1.
Pixels resize(const Pixels& source, std::uint32_t width, std::uint32_t height);

}  // namespace mayfly
