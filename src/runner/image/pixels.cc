#include "runner/image/pixels.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace mayfly {
namespace {

// The source pixels that make one target pixel.
struct Tap {
  std::uint32_t first = 0;
  std::vector<float> weights;  // sum 1
};

std::vector<Tap> make_taps(std::uint32_t from, std::uint32_t to) {
  const double scale = static_cast<double>(from) / to;
  const double reach = std::max(scale, 1.0);
  std::vector<Tap> taps(to);
  for (std::uint32_t i = 0; i < to; ++i) {
    const double center = (i + 0.5) * scale;
    const auto first = static_cast<std::uint32_t>(std::lround(std::max(center - reach, 0.0)));
    const auto last = std::min(from, static_cast<std::uint32_t>(std::lround(center + reach)));
    Tap& tap = taps[i];
    tap.first = std::min(first, from - 1);
    double sum = 0;
    for (std::uint32_t k = tap.first; k < std::max(last, tap.first + 1); ++k) {
      const double weight = std::max(1 - std::abs((k + 0.5 - center) / reach), 0.0);
      tap.weights.push_back(static_cast<float>(weight));
      sum += weight;
    }
    for (float& weight : tap.weights) weight /= static_cast<float>(sum);
  }
  return taps;
}

// The source rows that make one target row, blended into `blend`.
void blend_rows(const Pixels& source, const Tap& tap, std::vector<float>& blend) {
  std::ranges::fill(blend, 0.0F);
  for (std::uint32_t k = 0; k < tap.weights.size(); ++k) {
    const std::uint8_t* row = source.row(tap.first + k);
    const float weight = tap.weights[k];
    for (std::size_t x = 0; x < blend.size(); ++x) blend[x] += weight * row[x];
  }
}

void blend_columns(const std::vector<float>& blend, const std::vector<Tap>& taps,
                   std::uint32_t channels, std::uint8_t* target) {
  for (const Tap& tap : taps) {
    for (std::uint32_t c = 0; c < channels; ++c) {
      float value = 0.5F;  // rounds
      for (std::size_t k = 0; k < tap.weights.size(); ++k) {
        value += tap.weights[k] * blend[(tap.first + k) * channels + c];
      }
      *target++ = static_cast<std::uint8_t>(std::clamp(value, 0.0F, 255.0F));
    }
  }
}

}  // namespace

Pixels resize(const Pixels& source, std::uint32_t width, std::uint32_t height) {
  CHECK(source.width > 0 && source.height > 0 && width > 0 && height > 0);
  Pixels target{.width = width, .height = height, .channels = source.channels, .bytes = {}};
  const std::size_t row_bytes = std::size_t{width} * source.channels;
  target.bytes.resize(row_bytes * height);
  const std::vector<Tap> columns = make_taps(source.width, width);
  const std::vector<Tap> rows = make_taps(source.height, height);
  std::vector<float> blend(std::size_t{source.width} * source.channels);
  for (std::uint32_t y = 0; y < height; ++y) {
    blend_rows(source, rows[y], blend);
    blend_columns(blend, columns, source.channels, target.bytes.data() + y * row_bytes);
  }
  return target;
}

}  // namespace mayfly
