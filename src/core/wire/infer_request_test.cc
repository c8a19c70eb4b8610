#include "core/wire/infer_request.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>

#include "core/reason.h"
#include "core/wire/json_scanner.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

constexpr SizeLimit kLimit{.bytes = 1 << 20, .setting = "max_body"};

Signature signature_of(std::vector<TensorSpec> inputs) {
  return {.inputs = std::move(inputs),
          .outputs = {{"y", DataType::Fp32, {-1, 2}}, {"label", DataType::Bytes, {-1}}}};
}

const Signature kModel = signature_of({{"x", DataType::Fp32, {-1, 3}}});

Result<InferRequest> decode(std::string json, const Signature& signature = kModel) {
  JsonParser parser;
  return decode_infer_request(parser, std::move(json), signature, kLimit);
}

// Decodes the request and reads its JSON inputs.
Result<std::vector<std::vector<std::byte>>> read(std::string json, const Signature& signature) {
  const InferRequest request = TRY(decode(std::move(json), signature));
  std::vector<std::vector<std::byte>> tensors;
  for (const InferInput& input : request.inputs) {
    tensors.emplace_back(input.bytes);
    TRY(read_json_input(input, tensors.back()));
  }
  return tensors;
}

template <typename T>
std::vector<T> values(const std::vector<std::byte>& bytes) {
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

std::string one_input(std::string_view type, std::string_view shape, std::string_view data) {
  return R"({"inputs":[{"name":"x","datatype":")" + std::string(type) + R"(","shape":)" +
         std::string(shape) + R"(,"data":)" + std::string(data) + "}]}";
}

void refused(const Result<InferRequest>& result, std::string_view slug, std::string_view words) {
  REQUIRE_FALSE(result.has_value());
  INFO(result.error().message);
  CHECK(result.error().reason == slug);
  CHECK(result.error().message.find(words) != std::string::npos);
}

}  // namespace

TEST_CASE("an input without rows beside one with rows is refused") {
  const auto shapes = [](const char* a, const char* b, const Signature& signature) {
    return decode(
        fmt::format(R"({{"inputs":[{{"name":"a","datatype":"FP32","shape":[{0}],"data":[{2}]}},
                                  {{"name":"b","datatype":"FP32","shape":[{1}],"data":[{3}]}}]}})",
                    a, b, *a == '0' ? "" : "1", *b == '0' ? "" : "1"),
        signature);
  };
  const Signature rows =
      signature_of({{"a", DataType::Fp32, {-1, 1}}, {"b", DataType::Fp32, {-1, 1}}});
  const auto refused = shapes("1,1", "0,1", rows);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().message == "input 'b': has no rows, but input 'a' has 1");
  CHECK_FALSE(shapes("0,1", "1,1", rows).has_value());
  CHECK(shapes("0,1", "0,1", rows).has_value());
  CHECK(shapes("1,1", "1,1", rows).has_value());
  // An output that does not begin with rows: the dimensions mean something else.
  Signature other = rows;
  other.outputs.front().shape = {2};
  CHECK(shapes("1,1", "0,1", other).has_value());
}

TEST_CASE("a JSON request names inputs, outputs, id and timeout in any order of keys") {
  const auto request = decode(
      R"( {"parameters":{"timeout":2500,"custom":{"a":[1]},"priority":3,"sequence_id":0},
           "outputs":[{"name":"label"},{"name":"y","parameters":{"binary_data":true}}],
           "inputs":[{"data":[[1,2,3],[4,5,6]],"shape":[2,3],"datatype":"FP32","name":"x"}],
           "id":"a\u00e9\"b", "unknown":[{"deep":null}]} )");
  REQUIRE(request.has_value());
  CHECK(request->id == "aé\"b");
  CHECK(request->timeout == 2500us);
  REQUIRE(request->inputs.size() == 1);
  CHECK(request->inputs[0].shape == Shape{2, 3});
  CHECK(request->inputs[0].bytes == 24);
  CHECK(request->inputs[0].source == InputSource::Json);
  REQUIRE(request->outputs.size() == 2);
  CHECK(request->outputs[0].index == 1);
  CHECK(request->outputs[0].form == OutputForm::Json);
  CHECK(request->outputs[1].index == 0);
  CHECK(request->outputs[1].form == OutputForm::Binary);
}

TEST_CASE("flat and nested data are the same tensor") {
  for (const char* data : {"[1,2,3,4,5,6]", "[[1,2,3],[4,5,6]]", " [ [ 1 , 2.0,3e0 ],[4,5,6]] "}) {
    const auto tensors = read(one_input("FP32", "[2,3]", data), kModel);
    INFO(data);
    REQUIRE(tensors.has_value());
    CHECK(values<float>(tensors->at(0)) == std::vector<float>{1, 2, 3, 4, 5, 6});
  }
}

TEST_CASE("a moved request still knows its data") {
  auto request = decode(one_input("FP32", "[1,3]", "[1,2,3]"));
  REQUIRE(request.has_value());
  const InferRequest moved = *std::move(request);
  std::vector<std::byte> memory(12);
  REQUIRE(read_json_input(moved.inputs[0], memory).has_value());
  CHECK(values<float>(memory) == std::vector<float>{1, 2, 3});
}

TEST_CASE("the captured request of the official client decodes") {
  const Signature signature =
      signature_of({{"a", DataType::Fp32, {-1, 3}}, {"b", DataType::Bytes, {-1}}});
  const auto request = decode(
      R"({"id":"7","inputs":[{"name":"a","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}},{"name":"b","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":11}}],"parameters":{"binary_data_output":true}})",
      signature);
  REQUIRE(request.has_value());
  CHECK(request->binary_bytes == 23);
  CHECK(check_binary_size(*request, 23).has_value());
  CHECK_FALSE(check_binary_size(*request, 22).has_value());
  CHECK(request->outputs.size() == 2);
  CHECK(request->outputs[0].form == OutputForm::Binary);
  const std::array<char, 11> strings = {1, 0, 0, 0, 'a', 2, 0, 0, 0, 'b', 'c'};
  const auto bytes = std::as_bytes(std::span(strings));
  CHECK(check_received_input(request->inputs[1], bytes).has_value());
  CHECK_FALSE(check_received_input(request->inputs[1], bytes.first(10)).has_value());
}

TEST_CASE("one request mixes JSON and binary inputs") {
  const Signature signature =
      signature_of({{"a", DataType::Fp32, {2}}, {"b", DataType::Int64, {1}}});
  const auto request = decode(
      R"({"inputs":[{"name":"b","shape":[1],"datatype":"INT64","data":[-9223372036854775808]},
                    {"name":"a","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}}]})",
      signature);
  REQUIRE(request.has_value());
  CHECK(request->binary_bytes == 8);
  CHECK(request->inputs[0].index == 1);
  CHECK(request->inputs[0].source == InputSource::Json);
  CHECK(request->inputs[1].source == InputSource::Binary);
}

TEST_CASE("an output's own form beats the request's") {
  const auto request = decode(
      R"({"inputs":[{"name":"x","shape":[0,3],"datatype":"FP32","data":[]}],
          "outputs":[{"name":"y","parameters":{"binary_data":false}},{"name":"label"}],
          "parameters":{"binary_data_output":true}})");
  REQUIRE(request.has_value());
  CHECK(request->outputs[0].form == OutputForm::Json);
  CHECK(request->outputs[1].form == OutputForm::Binary);
}

TEST_CASE("what is wrong with an input is said by name, with what was expected") {
  struct Wrong {
    std::string json;
    std::string_view words;
  };
  const Wrong cases[] = {
      {R"({"inputs":[]})", "input 'x': is missing, expected 'x' FP32 [-1,3]"},
      {one_input("INT32", "[1,3]", "[1,2,3]"), "input 'x': datatype is INT32, expected FP32"},
      {one_input("FP8", "[1,3]", "[1,2,3]"), "datatype is FP8, expected FP32"},
      {one_input("FP32", "[1,4]", "[1,2,3,4]"), "input 'x': shape is [1,4], expected [-1,3]"},
      {one_input("FP32", "[3]", "[1,2,3]"), "shape is [3], expected [-1,3]"},
      {one_input("FP32", "[-1,3]", "[1,2,3]"), "negative dimension"},
      {one_input("FP32", "[9223372036854775807,3]", "[1,2,3]"), "too many elements"},
      {one_input("FP32", "[4611686018427387904,3]", "[1,2,3]"), "the data has fewer"},
      {one_input("FP32", "[1000000,3]", "[1,2,3]"), "the data has fewer"},
      {R"({"inputs":[{"name":"z","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]})",
       "input 'z': the model has no such input; it takes 'x'"},
      {R"({"inputs":[{"shape":[1,3],"datatype":"FP32","data":[1,2,3]}]})", "no name"},
      {R"({"inputs":[{"name":"x","datatype":"FP32","data":[1,2,3]}]})", "'x': has no shape"},
      {R"({"inputs":[{"name":"x","shape":[1,3],"data":[1,2,3]}]})", "'x': has no datatype"},
      {R"({"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32"}]})", "neither data nor"},
      {R"({"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3],
           "parameters":{"binary_data_size":12}}]})",
       "both data and"},
      {R"({"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32",
           "parameters":{"binary_data_size":13}}]})",
       "has 13 bytes of binary data, FP32 [1,3] needs 12"},
      {R"({"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]},
                     {"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]})",
       "input 'x': is given twice"},
      {R"({"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}],
           "outputs":[{"name":"w"}]})",
       "output 'w': the model has no such output; it has 'y', 'label'"},
      {R"({"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}],
           "outputs":[{"name":"y"},{"name":"y"}]})",
       "asked for twice"},
  };
  for (const Wrong& wrong : cases) {
    INFO(wrong.json);
    refused(decode(wrong.json), reason::kInvalidInput, wrong.words);
  }
}

TEST_CASE("what is not JSON, or not this protocol's, is a bad request") {
  for (const char* json :
       {"", " ", "{", "[]", "7", "{\"inputs\":[}", R"({"inputs":{}})", R"({"inputs":[1]})",
        R"({"id":1,"inputs":[]})", R"({"inputs":[],"inputs":[]})", R"({"id":"","id":""})",
        R"({"inputs":[]} x)", R"({"inputs":[{"name":"x","name":"x"}]})", R"({})",
        R"({"inputs":[{"name":"x","shape":[1.5,3],"datatype":"FP32","data":[]}]})",
        R"({"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":5}]})",
        R"({"inputs":[],"parameters":{"timeout":-1}})", "{\"inputs\":[],\"id\":\"\xff\"}",
        R"({"inputs":[{"name":"x","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}]})"}) {
    INFO(json);
    const auto request = decode(json);
    REQUIRE_FALSE(request.has_value());
    CHECK(request.error().reason == reason::kBadRequest);
  }
}

TEST_CASE("what the protocol has and the server does not is refused as unsupported") {
  const std::string input = R"("inputs":[{"name":"x","shape":[0,3],"datatype":"FP32","data":[]}])";
  for (const std::string& json :
       {"{" + input + R"(,"parameters":{"sequence_id":7}})",
        "{" + input + R"(,"parameters":{"sequence_start":true}})",
        "{" + input + R"(,"outputs":[{"name":"y","parameters":{"shared_memory_x":"r"}}]})"}) {
    INFO(json);
    refused(decode(json), reason::kUnsupported, "is not supported");
  }
  CHECK(decode("{" + input + R"(,"parameters":{"sequence_id":"","sequence_end":false}})"));
}

TEST_CASE("tensors may lie in shared memory, and are not of the body then") {
  const auto request = decode(
      R"({"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","parameters":{
          "shared_memory_region":"r","shared_memory_byte_size":24,"shared_memory_offset":8}}],
          "outputs":[{"name":"y","parameters":{
          "shared_memory_region":"s","shared_memory_byte_size":100}}]})");
  REQUIRE_MESSAGE(request.has_value(), (request ? "" : request.error().message));
  const InferInput& input = request->inputs.at(0);
  CHECK(input.source == InputSource::Shared);
  CHECK(input.shared->region == "r");
  CHECK(input.shared->offset == 8);
  CHECK(input.bytes == 24);
  CHECK(request->binary_bytes == 0);
  CHECK(request->outputs.at(0).shared->size == 100);
  const auto input_with = [&](const std::string& rest) {
    return decode(R"({"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32",)" + rest + "}]}");
  };
  for (
      const char* bad :
      {R"("data":[1,2,3,4,5,6],"parameters":{"shared_memory_region":"r","shared_memory_byte_size":24})",
       R"("parameters":{"binary_data_size":24,"shared_memory_region":"r","shared_memory_byte_size":24})",
       R"("parameters":{"shared_memory_region":"r"})",
       R"("parameters":{"shared_memory_byte_size":24})",
       R"("parameters":{"shared_memory_region":"r","shared_memory_byte_size":23})"})
    CHECK_MESSAGE(!input_with(bad).has_value(), bad);
}

TEST_CASE("an output may be asked for as its highest classes, unless it is BYTES") {
  const std::string input = R"("inputs":[{"name":"x","shape":[0,3],"datatype":"FP32","data":[]}])";
  const auto classified = [&](std::string_view name) {
    return decode("{" + input + R"(,"outputs":[{"name":")" + std::string(name) +
                  R"(","parameters":{"classification":3}}]})");
  };
  const auto request = classified("y");
  REQUIRE(request.has_value());
  CHECK(request->outputs.at(0).classes == 3);
  refused(classified("label"), reason::kInvalidInput, "cannot be classified");
}

TEST_CASE("sizes and depth are bounded") {
  refused(decode(std::string(kLimit.bytes + 1, ' ')), reason::kTooLarge, "setting max_body");
  const Signature wide = signature_of({{"x", DataType::Uint8, {-1}}});
  refused(decode(R"({"inputs":[{"name":"x","shape":[99999999],"datatype":"UINT8",
                   "parameters":{"binary_data_size":99999999}}]})",
                 wide),
          reason::kTooLarge, "1048576 bytes (setting max_body)");
  const std::string deep = std::string(100, '[') + std::string(100, ']');
  refused(decode(R"({"inputs":[],"other":)" + deep + "}"), reason::kTooLarge, "deeper than");
  CHECK_FALSE(read(one_input("FP32", "[1,3]", deep), kModel).has_value());
}

TEST_CASE("numbers are read exactly or refused") {
  struct Number {
    DataType type;
    std::string_view text;
    bool good;
  };
  const Number cases[] = {
      {DataType::Int8, "-128", true},
      {DataType::Int8, "-129", false},
      {DataType::Int8, "128", false},
      {DataType::Uint8, "255", true},
      {DataType::Uint8, "-1", false},
      {DataType::Uint8, "-0", true},
      {DataType::Int16, "-32768", true},
      {DataType::Uint16, "65536", false},
      {DataType::Int32, "2147483648", false},
      {DataType::Int32, "1.0", false},
      {DataType::Int32, "1e3", false},
      {DataType::Int32, "\"1\"", false},
      {DataType::Int32, "01", false},
      {DataType::Int32, "00", false},
      {DataType::Int32, "-", false},
      {DataType::Int32, "+1", false},
      {DataType::Int32, "1x", false},
      {DataType::Int32, "NaN", false},
      {DataType::Int32, "null", false},
      {DataType::Int32, "true", false},
      {DataType::Uint32, "4294967295", true},
      {DataType::Int64, "9223372036854775807", true},
      {DataType::Int64, "9223372036854775808", false},
      {DataType::Int64, "-9223372036854775808", true},
      {DataType::Int64, "\"2026-01-31\"", true},
      {DataType::Int64, "\"2026-01-31T08:00:00.25+02:00\"", true},
      {DataType::Int64, "\"2026-02-30\"", false},
      {DataType::Int64, "\"1\"", false},
      {DataType::Int64, "\"\"", false},
      {DataType::Uint64, "18446744073709551615", true},
      {DataType::Uint64, "18446744073709551616", false},
      {DataType::Fp32, "NaN", true},
      {DataType::Fp32, "-Infinity", true},
      {DataType::Fp32, "-NaN", false},
      {DataType::Fp32, "inf", false},
      {DataType::Fp32, "nan", false},
      {DataType::Fp32, "Infinit", false},
      {DataType::Fp32, "3.5e38", false},
      {DataType::Fp32, "1e-99999999999", true},
      {DataType::Fp64, "1e400", false},
      {DataType::Fp64, "1e-400", true},
      {DataType::Fp64, "1.", false},
      {DataType::Fp64, ".5", false},
      {DataType::Fp64, "1.e5", false},
      {DataType::Fp64, "1e", false},
      {DataType::Fp64, "0x10", false},
      {DataType::Fp64, "1.7976931348623157e308", true},
      {DataType::Bool, "true", true},
      {DataType::Bool, "0", true},
      {DataType::Bool, "2", false},
      {DataType::Bool, "tru", false},
      {DataType::Bytes, "\"a\\u0000\\ud83d\\ude00\"", true},
      {DataType::Bytes, "\"\\ud83d\"", false},
      {DataType::Bytes, "\"\\x\"", false},
      {DataType::Bytes, "7", false},
  };
  for (const Number& number : cases) {
    INFO(to_string(number.type), " ", number.text);
    const Signature signature = signature_of({{"x", number.type, {1}}});
    const auto read_back = read(
        one_input(to_string(number.type), "[1]", "[" + std::string(number.text) + "]"), signature);
    CHECK(read_back.has_value() == number.good);
    if (!read_back) CHECK(read_back.error().message.starts_with("input 'x': element 0"));
  }
}

TEST_CASE("floating-point numbers are rounded once") {
  const auto as_float = [](std::string_view text) {
    const auto tensors =
        read(one_input("FP32", "[1,3]", "[0,0," + std::string(text) + "]"), kModel);
    REQUIRE(tensors.has_value());
    return values<float>(tensors->at(0))[2];
  };
  CHECK(as_float("0.1") == 0.1F);
  CHECK(as_float("16777217") == 16777216.0F);
  // Through a double this would round to the even neighbour first, and wrongly then.
  CHECK(as_float("1.00000017881393432617187499") == 1.00000011920928955078125F);
  CHECK(as_float("123456789012345678901234567890") == 123456789012345678901234567890.0F);
  CHECK(as_float("1e-45") == std::numeric_limits<float>::denorm_min());
  CHECK(as_float("1e-60") == 0.0F);
  CHECK(std::signbit(as_float("-0.0")));
}

TEST_CASE("floats of every length are rounded as strtof rounds them") {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20'000; ++i) {
    const int digits = 1 + static_cast<int>(random() % 19);
    std::string text = random() % 2 == 0 ? "-" : "";
    text += static_cast<char>('1' + random() % 9);
    text += '.';
    for (int k = 0; k < digits; ++k) text += static_cast<char>('0' + random() % 10);
    text += "e" + std::to_string(static_cast<int>(random() % 90) - 50);
    const auto number = JsonScanner(text).take_decimal();
    REQUIRE(number.has_value());
    const float expected = std::strtof(text.c_str(), nullptr);
    INFO(text);
    CHECK(nearest<float>(*number).value_or(number->negative ? -HUGE_VALF : HUGE_VALF) == expected);
  }
}

TEST_CASE("counts and nesting must be the shape's") {
  for (const char* data :
       {"[1,2,3,4,5]", "[1,2,3,4,5,6,7]", "[[1,2],[3,4],[5,6]]", "[[1,2,3],[4,5]]", "[[1,2,3]]",
        "[[1,2,3],[4,5,6],[7,8,9]]", "[[1,2,3],4,5,6]", "[1,2,3,[4,5,6]]", "[[[1,2,3],[4,5,6]]]",
        "[1,2,3,4,5,]", "[1,2,3,4,5 6]", "[,1,2,3,4,5,6]", "[]", "[[],[]]",
        "[{\"a\":1},2,3,4,5,6]"}) {
    INFO(data);
    CHECK_FALSE(read(one_input("FP32", "[2,3]", data), kModel).has_value());
  }
}

TEST_CASE("FP16 and BF16 have no JSON form") {
  for (const char* type : {"FP16", "BF16"}) {
    const Signature signature = signature_of({{"x", *parse_data_type(type), {1}}});
    refused(decode(one_input(type, "[1]", "[1]"), signature), reason::kInvalidInput,
            "data via JSON is not supported. Please use the binary data format for input x");
  }
}

TEST_CASE("binary values are looked into where they could be malformed") {
  const Signature signature = signature_of({{"x", DataType::Bytes, {-1}}});
  const auto check = [&](std::string_view shape, std::string_view bytes) {
    const auto request =
        decode(R"({"inputs":[{"name":"x","datatype":"BYTES","shape":)" + std::string(shape) +
                   R"(,"parameters":{"binary_data_size":)" + std::to_string(bytes.size()) + "}}]}",
               signature);
    return request && check_received_input(request->inputs[0], std::as_bytes(std::span(bytes)));
  };
  using namespace std::string_view_literals;
  CHECK(check("[0]", ""));
  CHECK(check("[1]", "\3\0\0\0a\0b"sv));
  CHECK_FALSE(check("[1]", "\4\0\0\0a\0b"sv));
  CHECK_FALSE(check("[1]", "\2\0\0\0a\0b"sv));
  CHECK_FALSE(check("[2]", "\3\0\0\0a\0b"sv));
  CHECK_FALSE(check("[1]", "\xff\xff\xff\xff"sv));
  CHECK_FALSE(check("[1]", "\0\0\0"sv));
  const InferInput flags{.name = "f", .type = DataType::Bool, .shape = {2}, .bytes = 2};
  CHECK(check_received_input(flags, std::as_bytes(std::span("\0\1"sv))).has_value());
  CHECK_FALSE(check_received_input(flags, std::as_bytes(std::span("\0\2"sv))).has_value());
}

TEST_CASE("a request without JSON is the one input") {
  const auto raw = raw_infer_request(12, kModel);
  REQUIRE(raw.has_value());
  CHECK(raw->inputs[0].shape == Shape{1, 3});
  CHECK(raw->outputs.size() == 2);
  CHECK(raw->outputs[0].form == OutputForm::Binary);
  CHECK_FALSE(raw_infer_request(24, kModel).has_value());
  const auto open = raw_infer_request(20, signature_of({{"x", DataType::Fp32, {-1, -1}}}));
  REQUIRE(open.has_value());
  CHECK(open->inputs[0].shape == Shape{1, 5});
  CHECK_FALSE(raw_infer_request(21, signature_of({{"x", DataType::Fp32, {-1, -1}}})).has_value());
  CHECK_FALSE(
      raw_infer_request(4, signature_of({{"x", DataType::Fp32, {-1, -1, -1}}})).has_value());
  CHECK_FALSE(raw_infer_request(4, signature_of({})).has_value());

  const auto text = raw_infer_request(2, signature_of({{"x", DataType::Bytes, {-1}}}));
  REQUIRE(text.has_value());
  std::vector<std::byte> memory(text->inputs[0].bytes);
  const auto body = receive_input(text->inputs[0], memory);
  REQUIRE(body.size() == 2);
  std::memcpy(body.data(), "hi", 2);
  CHECK(check_received_input(text->inputs[0], memory).has_value());
}

TEST_CASE("the length of the JSON part is a plain number") {
  CHECK(parse_json_part_length("225") == 225);
  for (const char* bad : {"", "-1", "1 ", "0x1", "99999999999999999999"}) {
    CHECK_FALSE(parse_json_part_length(bad).has_value());
  }
}

TEST_CASE("a parser serves many requests, large ones between small ones") {
  JsonParser parser;
  const Signature signature = signature_of({{"x", DataType::Int32, {-1}}});
  for (const std::size_t count : {1UL, 600'000UL, 2UL}) {
    std::string data = "[1";
    for (std::size_t i = 1; i < count; ++i) data += ",1";
    const auto request = decode_infer_request(
        parser, one_input("INT32", "[" + std::to_string(count) + "]", data + "]"), signature,
        {.bytes = 1 << 24, .setting = "max_body"});
    REQUIRE(request.has_value());
    CHECK(request->inputs[0].bytes == count * 4);
  }
}
