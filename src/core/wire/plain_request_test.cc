#include "core/wire/plain_request.h"

#include <chrono>
#include <cstring>

#include "core/reason.h"
#include "core/wire/plain_reply.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

constexpr SizeLimit kLimit{.bytes = 1 << 20, .setting = "max_body"};

Result<InferRequest> decode(std::string json, const Signature& signature) {
  JsonParser parser;
  return decode_plain_request(parser, std::move(json), signature, kLimit);
}

Signature one(DataType type, Shape shape) {
  return {.inputs = {{"x", type, std::move(shape)}}, .outputs = {{"y", type, {-1}}}};
}

}  // namespace

TEST_CASE(
    "shapes come from how the arrays nest; missing dimensions are 1, in front or at the end") {
  struct Row {
    std::string_view json;
    Shape signature;
    std::optional<Shape> shape;
  };
  const Row rows[] = {
      {"[1,2,3]", {-1}, Shape{3}},
      {"[1,2,3]", {-1, 3}, Shape{1, 3}},
      {"[[1,2,3],[4,5,6]]", {-1, 3}, Shape{2, 3}},
      {"[1,2,3]", {-1, 1}, Shape{3, 1}},
      {"[1,2,3]", {-1, 4}, std::nullopt},
      {"41", {-1, 1}, Shape{1, 1}},
      {"41", {}, Shape{}},
      {"41", {1}, Shape{1}},
      {"[41]", {}, std::nullopt},
      {"41", {2}, std::nullopt},
      {"[]", {-1, 3}, Shape{0, 3}},
      {"[[],[]]", {-1, -1}, Shape{2, 0}},
      {"[[[1,2]]]", {-1, 2}, std::nullopt},
      {"[[1,2],[3,4]]", {-1, 1, 2, 2}, Shape{1, 1, 2, 2}},
  };
  for (const Row& row : rows) {
    const Signature signature = one(DataType::Int32, row.signature);
    for (const std::string& json :
         {std::string(row.json), R"( {"x": )" + std::string(row.json) + " } "}) {
      INFO(json, " for ", to_string(row.signature));
      const auto request = decode(json, signature);
      REQUIRE(request.has_value() == row.shape.has_value());
      if (!request) continue;
      CHECK(request->inputs[0].shape == *row.shape);
      std::vector<std::byte> memory(request->inputs[0].bytes);
      CHECK(read_json_input(request->inputs[0], memory).has_value());
    }
  }
}

TEST_CASE("inputs are given by name, texts as strings") {
  const Signature signature{.inputs = {{"age", DataType::Fp32, {-1, 1}},
                                       {"s", DataType::Bytes, {-1}},
                                       {"h", DataType::Fp16, {2}}},
                            .outputs = {}};
  const auto request = decode(R"({"s":"text","age":[41],"h":[1,NaN]})", signature);
  REQUIRE(request.has_value());
  std::vector<std::byte> text(request->inputs[0].bytes);
  REQUIRE(read_json_input(request->inputs[0], text).has_value());
  CHECK(std::memcmp(text.data(), "\4\0\0\0text", 8) == 0);
  std::vector<std::byte> half(request->inputs[2].bytes);
  REQUIRE(read_json_input(request->inputs[2], half).has_value());
  CHECK(std::memcmp(half.data(), "\0\x3c", 2) == 0);
}

TEST_CASE("what does not fit is refused by name") {
  const Signature two{.inputs = {{"a", DataType::Fp32, {1}}, {"b", DataType::Fp32, {1}}},
                      .outputs = {}};
  const std::pair<const char*, std::string_view> cases[] = {
      {R"({"a":1})", "input 'b': is missing"},
      {R"({"a":1,"c":2})", "input 'c': the model has no such input; it takes 'a' FP32 [1]"},
      {R"({"a":1,"a":2,"b":1})", "input 'a': is given twice"},
      {R"({"a":[1,2],"b":1})", "input 'a': its arrays nest like [2], expected [1]"},
      {R"([1])", "the model takes 2 inputs"},
      {R"({"a":{"x":1},"b":1})", "input 'a'"},
      {R"({"a":1,"b":1} 3)", "JSON document ended early"},
      {R"({"a":1,"b":1)", "JSON document ended early"},
  };
  for (const auto& [json, words] : cases) {
    INFO(json);
    const auto request = decode(json, two);
    REQUIRE_FALSE(request.has_value());
    INFO(request.error().message);
    CHECK(request.error().message.find(words) != std::string::npos);
  }
  for (const char* json :
       {"", " ", "[1] 2", "[1", "1]", "[1]]", "\"a\"", "[[1],2]", "nul", "[[1],[[2]]]"}) {
    INFO(json);
    const Signature single = one(DataType::Int32, {-1});
    const auto request = decode(json, single);
    if (!request) continue;
    std::vector<std::byte> memory(request->inputs[0].bytes);
    CHECK_FALSE(read_json_input(request->inputs[0], memory).has_value());
  }
}

TEST_CASE("outputs are named and nested like their shapes") {
  const float numbers[] = {0.1F, 1.0F, -2.5e-8F, 3e20F};
  const std::uint16_t half[] = {0x3C00, 0x7C00};
  const Shape square{2, 2};
  const Shape row{2};
  const Shape empty{2, 0};
  const ReplyTensor outputs[] = {
      {"p", DataType::Fp32, square, std::as_bytes(std::span(numbers))},
      {"h\n", DataType::Fp16, row, std::as_bytes(std::span(half))},
      {"none", DataType::Int64, empty, {}},
      {"one", DataType::Fp32, {}, std::as_bytes(std::span(numbers).first(1))},
  };
  const auto text = encode_plain_reply(outputs, kLimit);
  REQUIRE(text.has_value());
  CHECK(*text ==
        R"({"p":[[0.1,1.0],[-2.5e-08,3e+20]],"h\n":[1.0,Infinity],"none":[[],[]],"one":0.1})");
  CHECK(encode_plain_reply(outputs, {.bytes = 20, .setting = "max_reply"}).error().reason ==
        reason::kTooLarge);
}

TEST_CASE("an output whose shape claims endless empty rows ends at the limit") {
  const Shape shape{1LL << 60, 0};
  const ReplyTensor output{"y", DataType::Int64, shape, {}};
  const auto text = encode_plain_reply({&output, 1}, kLimit);
  REQUIRE_FALSE(text.has_value());
  CHECK(text.error().reason == reason::kTooLarge);
}

TEST_CASE("a request of the generate extension: inputs by name, some among its parameters") {
  const Signature model{
      .inputs = {{"x", DataType::Fp32, {-1}}, {"temperature", DataType::Fp32, {}}},
      .outputs = {{"y", DataType::Fp32, {-1}}}};
  JsonParser parser;
  const auto decode_generate = [&](std::string json) {
    return decode_generate_request(parser, std::move(json), model, kLimit);
  };
  const auto request = decode_generate(
      R"({"id":"7","x":[1,2],"parameters":{"temperature":0.5,"timeout":2500,"priority":3,"max":[1]}})");
  REQUIRE(request.has_value());
  CHECK(request->inputs.size() == 2);
  CHECK(request->timeout == std::chrono::microseconds(2500));
  CHECK(request->priority == 3);
  CHECK(request->outputs.size() == 1);
  for (const char* json : {"[1]", R"({"x":[1]})", R"({"x":[1],"temperature":1,"z":1})",
                           R"({"x":[1],"temperature":1,"parameters":{"temperature":1}})",
                           R"({"x":[1],"temperature":1,"parameters":[]})",
                           R"({"x":[1],"temperature":1,"parameters":{"timeout":-1}})"}) {
    INFO(json);
    CHECK_FALSE(decode_generate(json).has_value());
  }
}
