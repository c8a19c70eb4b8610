#include "runner/image/image.h"

#include <spng.h>
#include <turbojpeg.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "core/reason.h"
#include "runner/image/pixels.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

using File = std::vector<std::byte>;

File encode_png(const Pixels& pixels) {
  const int colour = pixels.channels == 1   ? SPNG_COLOR_TYPE_GRAYSCALE
                     : pixels.channels == 3 ? SPNG_COLOR_TYPE_TRUECOLOR
                                            : SPNG_COLOR_TYPE_TRUECOLOR_ALPHA;
  spng_ctx* context = spng_ctx_new(SPNG_CTX_ENCODER);
  spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1);
  spng_ihdr header{.width = pixels.width,
                   .height = pixels.height,
                   .bit_depth = 8,
                   .color_type = static_cast<std::uint8_t>(colour),
                   .compression_method = 0,
                   .filter_method = 0,
                   .interlace_method = 0};
  spng_set_ihdr(context, &header);
  REQUIRE(spng_encode_image(context, pixels.bytes.data(), pixels.bytes.size(), SPNG_FMT_PNG,
                            SPNG_ENCODE_FINALIZE) == 0);
  std::size_t size = 0;
  int error = 0;
  void* data = spng_get_png_buffer(context, &size, &error);
  REQUIRE(error == 0);
  File file(size);
  std::memcpy(file.data(), data, size);
  std::free(data);
  spng_ctx_free(context);
  return file;
}

File encode_jpeg(const Pixels& pixels) {
  tjhandle encoder = tjInitCompress();
  unsigned char* data = nullptr;
  unsigned long size = 0;
  REQUIRE(tjCompress2(encoder, pixels.bytes.data(), static_cast<int>(pixels.width), 0,
                      static_cast<int>(pixels.height), TJPF_RGB, &data, &size, TJSAMP_444, 100,
                      0) == 0);
  File file(size);
  std::memcpy(file.data(), data, size);
  tjFree(data);
  tjDestroy(encoder);
  return file;
}

// 2 x 1: red and blue.
const Pixels kTwo{.width = 2, .height = 1, .channels = 3, .bytes = {255, 0, 0, 0, 0, 255}};

ImageInput input_of(DataType type, Shape shape) {
  return image_input({"image", type, std::move(shape)}).value();
}

std::vector<std::uint8_t> bytes_of(const DecodedImage& image) {
  std::vector<std::uint8_t> bytes(image.bytes.size());
  std::memcpy(bytes.data(), image.bytes.data(), bytes.size());
  return bytes;
}

}  // namespace

TEST_CASE("a PNG becomes the model's layout, channels first or last") {
  const File file = encode_png(kTwo);
  const auto last = decode_image(file, input_of(DataType::Uint8, {-1, -1, -1, 3}));
  REQUIRE(last.has_value());
  CHECK(last->shape == Shape{1, 1, 2, 3});
  CHECK(bytes_of(*last) == std::vector<std::uint8_t>{255, 0, 0, 0, 0, 255});
  const auto first = decode_image(file, input_of(DataType::Uint8, {3, -1, -1}));
  REQUIRE(first.has_value());
  CHECK(first->shape == Shape{3, 1, 2});
  CHECK(bytes_of(*first) == std::vector<std::uint8_t>{255, 0, 0, 0, 0, 255});
}

TEST_CASE("FP32 inputs get 0 to 1") {
  const auto image = decode_image(encode_png(kTwo), input_of(DataType::Fp32, {1, 3, 1, 2}));
  REQUIRE(image.has_value());
  std::array<float, 6> values{};
  REQUIRE(image->bytes.size() == sizeof(values));
  std::memcpy(values.data(), image->bytes.data(), sizeof(values));
  CHECK(values == std::array<float, 6>{1, 0, 0, 0, 0, 1});
}

TEST_CASE("grey is luma; missing alpha is full and unwanted alpha is dropped") {
  const auto grey = decode_image(encode_png(kTwo), input_of(DataType::Uint8, {1, 1, -1, -1}));
  REQUIRE(grey.has_value());
  CHECK(bytes_of(*grey) == std::vector<std::uint8_t>{76, 29});
  const auto alpha = decode_image(encode_png(kTwo), input_of(DataType::Uint8, {-1, -1, 4}));
  REQUIRE(alpha.has_value());
  CHECK(bytes_of(*alpha) == std::vector<std::uint8_t>{255, 0, 0, 255, 0, 0, 255, 255});
  const Pixels clear{.width = 1, .height = 1, .channels = 4, .bytes = {1, 2, 3, 0}};
  const auto opaque = decode_image(encode_png(clear), input_of(DataType::Uint8, {-1, -1, 3}));
  REQUIRE(opaque.has_value());
  CHECK(bytes_of(*opaque) == std::vector<std::uint8_t>{1, 2, 3});
}

TEST_CASE("a JPEG decodes to about what was encoded") {
  Pixels flat{.width = 16, .height = 8, .channels = 3, .bytes = {}};
  for (int i = 0; i < 16 * 8; ++i) flat.bytes.insert(flat.bytes.end(), {200, 100, 50});
  for (const std::int64_t channels : {1, 3, 4}) {
    const auto image =
        decode_image(encode_jpeg(flat), input_of(DataType::Uint8, {-1, -1, -1, channels}));
    REQUIRE(image.has_value());
    CHECK(image->shape == Shape{1, 8, 16, channels});
    const std::array<int, 4> expected = {channels == 1 ? 124 : 200, 100, 50, 255};
    for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
      CHECK(std::abs(static_cast<int>(image->bytes[c]) - expected.at(c)) <= 3);
    }
  }
}

TEST_CASE("resizing keeps flat colours, averages when it shrinks and interpolates when it grows") {
  const Pixels flat{.width = 3, .height = 2, .channels = 1, .bytes = {9, 9, 9, 9, 9, 9}};
  for (const std::uint8_t value : resize(flat, 7, 5).bytes) CHECK(value == 9);
  const Pixels four{.width = 4, .height = 1, .channels = 1, .bytes = {0, 100, 100, 0}};
  CHECK(resize(four, 1, 1).bytes.at(0) >= 49);
  const Pixels two{.width = 2, .height = 1, .channels = 1, .bytes = {0, 100}};
  CHECK(resize(two, 4, 1).bytes == std::vector<std::uint8_t>{0, 25, 75, 100});
  const auto image = decode_image(encode_png(kTwo), input_of(DataType::Uint8, {1, 3, 4, 4}));
  REQUIRE(image.has_value());
  CHECK(image->bytes.size() == 48);
}

TEST_CASE("what is no image, broken or too large is refused before its pixels are allocated") {
  const ImageInput input = input_of(DataType::Uint8, {-1, -1, -1, 3});
  const auto refused = [&](const File& file, std::string_view words) {
    const auto image = decode_image(file, input);
    REQUIRE_FALSE(image.has_value());
    INFO(image.error().message);
    CHECK(image.error().reason == reason::kInvalidInput);
    CHECK(image.error().message.find(words) != std::string::npos);
  };
  refused({}, "neither PNG nor JPEG");
  refused(File(100), "neither PNG nor JPEG");
  for (File file : {encode_png(kTwo), encode_jpeg(kTwo)}) {
    for (const std::size_t keep : {9UL, 20UL, file.size() / 2, file.size() - 20}) {
      refused(File(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(keep)),
              "the image cannot be decoded");
    }
  }
  const auto narrow = decode_image(encode_png(kTwo), input, {.extent = 1, .pixels = 10});
  CHECK_FALSE(narrow.has_value());
  const auto few = decode_image(encode_jpeg(kTwo), input, {.extent = 10, .pixels = 1});
  REQUIRE_FALSE(few.has_value());
  CHECK(few.error().message.find("the image is 2 x 1") != std::string::npos);
}
