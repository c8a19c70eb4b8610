#include "runner/image/image.h"

#include <fmt/format.h>
#include <spng.h>
#include <turbojpeg.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string_view>

#include "core/reason.h"
#include "runner/image/pixels.h"

namespace mayfly {
namespace {

constexpr std::array<std::uint8_t, 8> kPngMagic = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
constexpr std::array<std::uint8_t, 3> kJpegMagic = {0xFF, 0xD8, 0xFF};

std::unexpected<Error> bad_image(std::string_view what) {
  return refuse(reason::kInvalidInput, fmt::format("the image cannot be decoded: {}", what));
}

template <std::size_t n>
bool begins_with(std::span<const std::byte> file, const std::array<std::uint8_t, n>& magic) {
  return file.size() >= n && std::memcmp(file.data(), magic.data(), n) == 0;
}

Status check_size(std::uint64_t width, std::uint64_t height, const ImageLimits& limits) {
  if (width == 0 || height == 0) return bad_image("it has no pixels");
  if (width <= limits.extent && height <= limits.extent && width * height <= limits.pixels) {
    return {};
  }
  return refuse(reason::kInvalidInput,
                fmt::format("the image is {} x {}; at most {} a side and {} pixels in all are "
                            "decoded",
                            width, height, limits.extent, limits.pixels));
}

// ---- PNG ----------------------------------------------------------------------------------------

struct FreePng {
  void operator()(spng_ctx* context) const { spng_ctx_free(context); }
};

// RGB, or RGBA where the model has a place for alpha. Grey is made from RGB afterwards: the library
// writes grey only from grey.
Result<Pixels> decode_png(std::span<const std::byte> file, std::uint32_t channels,
                          const ImageLimits& limits) {
  const std::unique_ptr<spng_ctx, FreePng> png(spng_ctx_new(0));
  if (!png) return fail(Code::ResourceExhausted, "no memory to decode a PNG");
  constexpr std::size_t kChunk = 1024 * 1024;  // text, profiles, palettes: never the pixels
  spng_set_image_limits(png.get(), limits.extent, limits.extent);
  spng_set_chunk_limits(png.get(), kChunk, kChunk);
  spng_ihdr header{};
  int error = spng_set_png_buffer(png.get(), file.data(), file.size());
  if (error == 0) error = spng_get_ihdr(png.get(), &header);
  if (error != 0) return bad_image(spng_strerror(error));
  TRY(check_size(header.width, header.height, limits));

  const int format = channels == 4 ? SPNG_FMT_RGBA8 : SPNG_FMT_RGB8;
  Pixels pixels{.width = header.width,
                .height = header.height,
                .channels = channels == 4 ? 4U : 3U,
                .bytes = {}};
  std::size_t bytes = 0;
  error = spng_decoded_image_size(png.get(), format, &bytes);
  if (error != 0) return bad_image(spng_strerror(error));
  pixels.bytes.resize(std::size_t{pixels.width} * pixels.height * pixels.channels);
  if (bytes != pixels.bytes.size()) return bad_image("its size and format disagree");
  const int flags = channels == 4 ? SPNG_DECODE_TRNS : 0;
  error = spng_decode_image(png.get(), pixels.bytes.data(), bytes, format, flags);
  if (error != 0) return bad_image(spng_strerror(error));
  return pixels;
}

// ---- JPEG ---------------------------------------------------------------------------------------

struct FreeJpeg {
  void operator()(void* decoder) const { tjDestroy(decoder); }
};

int jpeg_format(std::uint32_t channels) {
  return channels == 1 ? TJPF_GRAY : channels == 3 ? TJPF_RGB : TJPF_RGBA;
}

// Warnings are about bytes that decoders pass over; only a file that ends early lacks pixels.
bool is_fatal(tjhandle decoder) {
  return tjGetErrorCode(decoder) != TJERR_WARNING ||
         std::string_view(tjGetErrorStr2(decoder)).contains("Premature end");
}

Result<Pixels> decode_jpeg(std::span<const std::byte> file, std::uint32_t channels,
                           const ImageLimits& limits) {
  const std::unique_ptr<void, FreeJpeg> jpeg(tjInitDecompress());
  if (!jpeg) return fail(Code::ResourceExhausted, "no memory to decode a JPEG");
  const auto* data = reinterpret_cast<const unsigned char*>(file.data());
  int width = 0;
  int height = 0;
  int subsampling = 0;
  int colours = 0;
  if (tjDecompressHeader3(jpeg.get(), data, file.size(), &width, &height, &subsampling, &colours) !=
          0 &&
      is_fatal(jpeg.get())) {
    return bad_image(tjGetErrorStr2(jpeg.get()));
  }
  if (width < 0 || height < 0) return bad_image("its header has no size");
  TRY(check_size(static_cast<std::uint64_t>(width), static_cast<std::uint64_t>(height), limits));

  Pixels pixels{.width = static_cast<std::uint32_t>(width),
                .height = static_cast<std::uint32_t>(height),
                .channels = channels,
                .bytes = {}};
  pixels.bytes.resize(std::size_t{pixels.width} * pixels.height * channels);
  // A progressive file may hold any number of scans of the same pixels: LIMITSCANS ends that.
  const int decoded = tjDecompress2(jpeg.get(), data, file.size(), pixels.bytes.data(), width, 0,
                                    height, jpeg_format(channels), TJFLAG_LIMITSCANS);
  if (decoded != 0 && is_fatal(jpeg.get())) return bad_image(tjGetErrorStr2(jpeg.get()));
  return pixels;
}

// ---- Pixels → tensor ----------------------------------------------------------------------------

Pixels to_grey(const Pixels& rgb) {
  Pixels grey{.width = rgb.width, .height = rgb.height, .channels = 1, .bytes = {}};
  grey.bytes.reserve(rgb.bytes.size() / 3);
  for (std::size_t i = 0; i + 2 < rgb.bytes.size(); i += 3) {
    const int luma = 299 * rgb.bytes[i] + 587 * rgb.bytes[i + 1] + 114 * rgb.bytes[i + 2];
    grey.bytes.push_back(static_cast<std::uint8_t>((luma + 500) / 1000));
  }
  return grey;
}

template <typename T>
T to_element(std::uint8_t value) {
  if constexpr (std::is_same_v<T, float>) return static_cast<float>(value) / 255.0F;
  return static_cast<T>(value);
}

template <typename T>
std::vector<std::byte> arrange(const Pixels& pixels, ChannelOrder order) {
  const std::size_t count = std::size_t{pixels.width} * pixels.height;
  const std::size_t channels = pixels.channels;
  std::vector<std::byte> bytes(count * channels * sizeof(T));
  const auto store = [&](std::size_t at, std::uint8_t value) {
    const T element = to_element<T>(value);
    std::memcpy(bytes.data() + at * sizeof(T), &element, sizeof(T));
  };
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t c = 0; c < channels; ++c) {
      const std::size_t at = order == ChannelOrder::First ? c * count + i : i * channels + c;
      store(at, pixels.bytes[i * channels + c]);
    }
  }
  return bytes;
}

}  // namespace

Result<DecodedImage> decode_image(std::span<const std::byte> file, const ImageInput& input,
                                  const ImageLimits& limits) {
  const bool png = begins_with(file, kPngMagic);
  if (!png && !begins_with(file, kJpegMagic)) return bad_image("it is neither PNG nor JPEG");
  Pixels pixels = TRY(png ? decode_png(file, input.channels, limits)
                          : decode_jpeg(file, input.channels, limits));
  if (input.channels == 1 && pixels.channels == 3) pixels = to_grey(pixels);

  const std::uint32_t width = input.width.value_or(pixels.width);
  const std::uint32_t height = input.height.value_or(pixels.height);
  TRY(check_size(width, height, limits));
  if (width != pixels.width || height != pixels.height) pixels = resize(pixels, width, height);
  return DecodedImage{.shape = image_shape(input, height, width),
                      .bytes = input.type == DataType::Fp32
                                   ? arrange<float>(pixels, input.order)
                                   : arrange<std::uint8_t>(pixels, input.order)};
}

}  // namespace mayfly
