#include "core/wire/tf_request.h"

#include <cstring>
#include <deque>

#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

constexpr SizeLimit kLimit{.bytes = 1 << 20, .setting = "max_body"};

Result<InferRequest> decode(std::string json, const Signature& signature) {
  JsonParser parser;
  return decode_tf_request(parser, std::move(json), signature, kLimit);
}

// Requests look into their signature: it stays.
const Signature& kept(Signature signature) {
  static std::deque<Signature> all;
  return all.emplace_back(std::move(signature));
}

const Signature& one(DataType type, Shape shape) {
  return kept({.inputs = {{"x", type, std::move(shape)}}, .outputs = {{"y", type, {-1}}}});
}

const Signature& two() {
  return kept({.inputs = {{"a", DataType::Int32, {-1}}, {"b", DataType::Int32, {-1, 2}}},
               .outputs = {{"y", DataType::Int32, {-1}}}});
}

// The first refusal of decoding and reading; empty: there is none.
std::string refusal(std::string json, const Signature& signature) {
  const auto request = decode(std::move(json), signature);
  if (!request) return request.error().message;
  for (const InferInput& input : request->inputs) {
    std::vector<std::byte> memory(input.bytes);
    if (const Status read = read_json_input(input, memory); !read) return read.error().message;
  }
  return {};
}

std::vector<std::int32_t> read_numbers(const InferInput& input) {
  std::vector<std::byte> memory(input.bytes);
  std::vector<std::int32_t> numbers(input.bytes / sizeof(std::int32_t));
  REQUIRE(read_json_input(input, memory).has_value());
  std::memcpy(numbers.data(), memory.data(), memory.size());
  return numbers;
}

std::string read_text(const InferInput& input) {
  std::string text(input.bytes, '\0');
  REQUIRE(read_json_input(input, std::as_writable_bytes(std::span(text))).has_value());
  return text;
}

}  // namespace

TEST_CASE("rows of a model with one input are its tensor") {
  const auto request =
      decode(R"( {"instances" : [[1,2],[3,4],[5,6]]} )", one(DataType::Int32, {-1, 2}));
  REQUIRE(request.has_value());
  REQUIRE(request->instances.has_value());
  CHECK(*request->instances == 3);
  CHECK(request->inputs[0].shape == Shape{3, 2});
  CHECK(read_numbers(request->inputs[0]) == std::vector<std::int32_t>{1, 2, 3, 4, 5, 6});
  CHECK(decode(R"({"instances":[{"x":7},{"x":8}]})", one(DataType::Int32, {-1}))->inputs[0].shape ==
        Shape{2});
}

TEST_CASE("rows that name inputs are stacked, in whatever order each names them") {
  auto moved = decode(R"({"instances":[{"a":1,"b":[2,3]},{"b": [4, 5] ,"a":6}]})", two());
  REQUIRE(moved.has_value());
  const InferRequest request = *std::move(moved);
  CHECK(request.instances == 2U);
  REQUIRE(request.inputs.size() == 2);
  CHECK(request.inputs[0].shape == Shape{2});
  CHECK(request.inputs[1].shape == Shape{2, 2});
  CHECK(read_numbers(request.inputs[0]) == std::vector<std::int32_t>{1, 6});
  CHECK(read_numbers(request.inputs[1]) == std::vector<std::int32_t>{2, 3, 4, 5});
}

TEST_CASE("columns are whole tensors, by name or alone") {
  const auto named = decode(R"({"inputs":{"b":[[2,3]],"a":[1,2,3]}})", two());
  REQUIRE(named.has_value());
  CHECK_FALSE(named->instances.has_value());
  CHECK(named->inputs[0].name == "b");
  CHECK(named->inputs[1].shape == Shape{3});
  CHECK(read_numbers(named->inputs[1]) == std::vector<std::int32_t>{1, 2, 3});
  CHECK(decode(R"({"inputs":[[1],[2]]})", one(DataType::Int32, {-1, 1}))->inputs[0].shape ==
        Shape{2, 1});
  CHECK(decode(R"({"inputs":5})", one(DataType::Int32, {}))->inputs[0].shape.empty());
}

TEST_CASE("BYTES are strings or base64, in rows and in columns") {
  const Signature text = one(DataType::Bytes, {-1});
  const std::string expected("\3\0\0\0foo\2\0\0\0\0\xFF", 13);
  for (const char* json : {R"({"instances":["foo",{"b64":"AP8="}]})",
                           R"({"instances":[{"b64":"Zm9v"},{"b64":"AP8"}]})",
                           R"({"instances":[{"x":"foo"},{"x":{"b64":"AP8="}}]})",
                           R"({"inputs":["foo",{"b64":"AP8="}]})",
                           R"({"inputs":{"x":[{"b64":"Zm9v"},{"b64":"AP8="}]}})"}) {
    INFO(json);
    const auto request = decode(json, text);
    REQUIRE(request.has_value());
    CHECK(request->inputs[0].shape == Shape{2});
    CHECK(read_text(request->inputs[0]) == expected);
  }
  const Signature scalar = one(DataType::Bytes, {});
  CHECK(read_text(decode(R"({"inputs":{"b64":"Zg=="}})", scalar)->inputs[0]) ==
        std::string("\1\0\0\0f", 5));
  const Signature b64{.inputs = {{"b64", DataType::Bytes, {-1}}}, .outputs = {}};
  CHECK(read_text(decode(R"({"instances":[{"b64":"Zg=="}]})", b64)->inputs[0]) ==
        std::string("\4\0\0\0Zg==", 8));
}

TEST_CASE("the default signature is the only one; other keys are passed over") {
  const Signature signature = one(DataType::Int32, {-1});
  CHECK(refusal(R"({"signature_name":"serving_default","instances":[1]})", signature).empty());
  CHECK(refusal(R"({"instances":[1],"signature_name":"","more":{"x":[1]}})", signature).empty());
  const auto other = decode(R"({"signature_name":"train","instances":[1]})", signature);
  REQUIRE_FALSE(other.has_value());
  CHECK(other.error().reason == reason::kInvalidInput);
  CHECK(other.error().message.find("signature_name 'train' is not served") != std::string::npos);
}

TEST_CASE("a request that does not fit a model with one input is refused with what is wrong") {
  const std::pair<const char*, std::string_view> cases[] = {
      {R"({"instances":[[1,2],[3]]})", "input 'x': shape [2,2] needs 2 elements here"},
      {R"({"instances":[[1,2],3]})", "input 'x': the data is not nested like shape [2,2]"},
      {R"({"instances":[1,2]})", "input 'x': its values nest like [2], expected [-1,2]"},
      {R"({"instances":[[1,"2"]]})", R"(input 'x': element 1 is "2", expected INT32)"},
      {R"({"instances":[[1,2.5]]})", "input 'x': element 1 is 2.5, expected INT32"},
      {R"({"instances":[[1,{"b64":"AA=="}]]})", "input 'x': expected an array, a number"},
      {R"({"instances":[{"b64":"AA=="}]})", "found an object"},
      {R"({"instances":[{"y":[1,2]}]})", "instance 0: input 'y': the model has no such input"},
      {R"({"instances":[{}]})", "instance 0: input 'x': is missing"},
      {R"({"instances":[{"x":[1,2]},[3,4]]})", "instance 1: is no object of inputs"},
      {R"({"instances":[{"x":[1,2],"x":[1,2]}]})", "instance 0: input 'x': is given twice"},
      {R"({"instances":[[1,2],{"x":[3,4]}]})", "input 'x'"},
      {R"({"instances":[{"x":[1,2]},{"x":[3]}]})", "input 'x': shape [2,2] needs 2 elements here"},
      {R"({"instances":[]})", "'instances' is empty"},
      {R"({"instances":{"x":[1,2]}})", "'instances' is not a list"},
      {R"({"instances":5})", "'instances' is not a list"},
      {R"({"inputs":[]})", "input 'x': its values nest like [0], expected [-1,2]"},
      {R"({"inputs":{}})", "input 'x': is missing"},
      {R"({"inputs":{"y":1}})",
       "input 'y': the model has no such input; it takes 'x' INT32 [-1,2]"},
      {R"({"instances":[[1,2]],"inputs":[[1,2]]})", "not both"},
      {R"({"inputs":[[1,2]],"instances":[[1,2]]})", "not both"},
      {R"({"inputs":[[1,2]],"inputs":[[1,2]]})", "'inputs' is given twice"},
      {R"({"signature_name":"serving_default"})", "give 'instances'"},
      {R"({"signature_name":1,"instances":[[1,2]]})", "signature_name: "},
      {R"([[1,2]])", "the request: "},
      {R"({"instances":[[1,2]])", "ended early"},
      {R"({"instances":[[1,2]]} 3)", "ended early"},
      {R"({"instances":[[1,2]}])", "the request: "},
      {"", "not JSON"},
  };
  for (const auto& [json, words] : cases) {
    INFO(json);
    const std::string message = refusal(json, one(DataType::Int32, {-1, 2}));
    INFO(message);
    CHECK_FALSE(message.empty());
    CHECK(message.find(words) != std::string::npos);
  }
}

TEST_CASE("a request that does not fit a model with two inputs is refused with what is wrong") {
  const std::pair<const char*, std::string_view> cases[] = {
      {R"({"instances":[1,2]})", "the model takes 2 inputs; send an object with 'a' INT32 [-1]"},
      {R"({"inputs":[1,2]})", "the model takes 2 inputs"},
      {R"({"instances":[{"a":1,"b":[1,2]},{"a":1}]})", "instance 1: input 'b': is missing"},
      {R"({"instances":[{"a":1,"b":[1,2],"c":3}]})", "instance 0: input 'c': the model has no"},
      {R"({"instances":[{"a":[1],"b":[1,2]}]})", "input 'a': its values nest like [1,1]"},
      {R"({"inputs":{"a":[1]}})", "input 'b': is missing, expected 'b' INT32 [-1,2]"},
      {R"({"inputs":{"a":[1],"a":[2],"b":[[1,2]]}})", "input 'a': is given twice"},
      {R"({"instances":[{"a":1 2,"b":[1,2]}]})", "instance 0: "},
      {R"({"instances":[{"a":,"b":[1,2]},{"a":1,"b":[1,2]}]})", "instance 0: "},
      {R"({"instances":[{"a":1"2,3","b":[1,2]}]})", "input 'a': the value of an instance is"},
      {R"({"instances":[{"a":)", ""},
  };
  for (const auto& [json, words] : cases) {
    INFO(json);
    const std::string message = refusal(json, two());
    INFO(message);
    CHECK_FALSE(message.empty());
    CHECK(message.find(words) != std::string::npos);
  }
  const Signature scalar = one(DataType::Int32, {});
  CHECK(refusal(R"({"instances":[1]})", scalar).find("use 'inputs'") != std::string::npos);
}

TEST_CASE("nesting and size are bounded") {
  const Signature signature = one(DataType::Int32, {-1});
  for (const std::size_t levels : {20U, 100U, 5000U}) {
    const std::string deep = std::string(levels, '[') + std::string(levels, ']');
    for (const std::string& json :
         {R"({"instances":)" + deep + "}", R"({"instances":[{"x":)" + deep + "}]}",
          R"({"inputs":{"x":)" + deep + "}}", R"({"other":)" + deep + R"(,"instances":[1]})"}) {
      const bool passed_over = json.starts_with(R"({"other")") && levels == 20;
      CHECK(refusal(json, signature).empty() == passed_over);
    }
  }
  JsonParser parser;
  const auto large = decode_tf_request(parser, R"({"instances":[1]})", signature,
                                       {.bytes = 10, .setting = "max_body"});
  REQUIRE_FALSE(large.has_value());
  CHECK(large.error().reason == reason::kTooLarge);
}
