#include "core/wire/image_request.h"

#include "core/reason.h"
#include "core/wire/model_metadata.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("an image-like input has a place for height, width and 1, 3 or 4 channels") {
  struct Row {
    DataType type;
    Shape shape;
    std::optional<Shape> of_10x20;  // the tensor's shape, free extents taken from the image
  };
  const Row rows[] = {
      {DataType::Fp32, {-1, 3, 224, 224}, Shape{1, 3, 224, 224}},
      {DataType::Uint8, {1, 8, 8, 1}, Shape{1, 8, 8, 1}},
      {DataType::Uint8, {3, -1, -1}, Shape{3, 10, 20}},
      {DataType::Fp32, {-1, -1, -1, 4}, Shape{1, 10, 20, 4}},
      {DataType::Fp32, {1, 1, 28, 28}, Shape{1, 1, 28, 28}},
      {DataType::Fp32, {2, 3, 224, 224}, std::nullopt},
      {DataType::Fp32, {-1, 2, 224, 224}, std::nullopt},
      {DataType::Fp32, {-1, -1, -1, -1}, std::nullopt},
      {DataType::Fp32, {-1, 784}, std::nullopt},
      {DataType::Int64, {-1, 3, 224, 224}, std::nullopt},
      {DataType::Fp32, {3, 0, 5}, std::nullopt},
  };
  for (const Row& row : rows) {
    INFO(to_string(row.shape));
    const auto input = image_input({"image", row.type, row.shape});
    REQUIRE(input.has_value() == row.of_10x20.has_value());
    if (!input) continue;
    CHECK(image_shape(*input, input->height.value_or(10), input->width.value_or(20)) ==
          *row.of_10x20);
  }
}

TEST_CASE("an image body becomes one encoded input") {
  const Signature signature{.inputs = {{"image", DataType::Fp32, {-1, 3, 8, 8}}},
                            .outputs = {{"y", DataType::Fp32, {-1}}}};
  const auto request = image_request(100, signature);
  REQUIRE(request.has_value());
  CHECK(request->binary_bytes == 100);
  const InferInput& input = request->inputs.at(0);
  CHECK(input.form == InputForm::EncodedImage);
  CHECK(input.type == DataType::Uint8);
  CHECK(input.shape == Shape{100});
  std::vector<std::byte> memory(100);
  CHECK(receive_input(input, memory).size() == 100);
  CHECK(check_received_input(input, memory).has_value());
  CHECK_FALSE(image_request(0, signature).has_value());
  const Signature table{.inputs = {{"x", DataType::Fp32, {-1, 30}}}, .outputs = {}};
  CHECK(image_request(100, table).error().reason == reason::kUnsupportedMedia);
}

TEST_CASE("metadata, readiness and errors are the protocol's") {
  const Signature signature{.inputs = {{"x", DataType::Fp32, {-1, 3}}},
                            .outputs = {{"y", DataType::Bytes, {}}}};
  const VersionNumber versions[] = {{1}, {2}};
  CHECK(model_metadata_json(
            {.name = "m", .versions = versions, .runtime = "onnx", .signature = signature}) ==
        R"({"name":"m","versions":["1","2"],"platform":"onnxruntime_onnx",)"
        R"("inputs":[{"name":"x","datatype":"FP32","shape":[-1,3]}],)"
        R"("outputs":[{"name":"y","datatype":"BYTES","shape":[]}]})");
  CHECK(server_metadata_json("1.0", SharedMemory::On)
            .ends_with(R"("statistics","system_shared_memory"]})"));
  CHECK(server_metadata_json("1.0", SharedMemory::Off) ==
        R"({"name":"mayfly","version":"1.0","extensions":["binary_tensor_data","classification",)"
        R"x("model_configuration","model_repository","model_repository(unload_dependents)",)x"
        R"("statistics"]})");
  CHECK(server_live_json() == R"({"live":true})");
  CHECK(server_ready_json(Readiness::No) == R"({"ready":false})");
  CHECK(model_ready_json("m", Readiness::Yes) == R"({"name":"m","ready":true})");
}
