#include "core/wire/tf_reply.h"

#include <array>

#include "core/reason.h"
#include "core/wire/tf_metadata.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

constexpr SizeLimit kLimit{.bytes = 1 << 20, .setting = "max_reply"};

const std::array<float, 4> kNumbers{0.5F, 1.0F, -2.0F, 3.0F};
const std::string kTexts("\1\0\0\0a\1\0\0\0\xFF", 10);  // "a" and a byte that is no text
const Shape kRows{2, 2};
const Shape kRow{2};

ReplyTensor numbers() { return {"p", DataType::Fp32, kRows, std::as_bytes(std::span(kNumbers))}; }

ReplyTensor texts(std::string_view name) {
  return {name, DataType::Bytes, kRow, std::as_bytes(std::span(kTexts))};
}

std::string encode(std::initializer_list<ReplyTensor> outputs,
                   std::optional<std::uint64_t> instances) {
  const auto text = encode_tf_reply(std::span(outputs.begin(), outputs.size()), instances, kLimit);
  return text ? *text : text.error().message;
}

}  // namespace

TEST_CASE("one output stands bare, several stand by name, in rows and in columns") {
  CHECK(encode({numbers()}, 2) == R"({"predictions":[[0.5,1.0],[-2.0,3.0]]})");
  CHECK(encode({numbers()}, std::nullopt) == R"({"outputs":[[0.5,1.0],[-2.0,3.0]]})");
  CHECK(encode({numbers(), texts("s")}, 2) ==
        R"({"predictions":[{"p":[0.5,1.0],"s":"a"},{"p":[-2.0,3.0],"s":{"b64":"/w=="}}]})");
  CHECK(encode({numbers(), texts("s")}, std::nullopt) ==
        R"({"outputs":{"p":[[0.5,1.0],[-2.0,3.0]],"s":["a",{"b64":"/w=="}]}})");
}

TEST_CASE("an output whose name ends in _bytes is base64 whatever it holds") {
  CHECK(encode({texts("image_bytes")}, 2) == R"({"predictions":[{"b64":"YQ=="},{"b64":"/w=="}]})");
  ReplyTensor plain = numbers();
  plain.name = "p_bytes";
  CHECK(encode({plain}, 2) == R"({"predictions":[[0.5,1.0],[-2.0,3.0]]})");
}

TEST_CASE("rows need a row of every output for each instance") {
  const std::string message = encode({numbers(), texts("s")}, 3);
  CHECK(message.find("output 'p': shape [2,2] has no row for each of the 3 instances") == 0);
  CHECK(message.find("'inputs' instead of 'instances'") != std::string::npos);
  const ReplyTensor scalar{"one", DataType::Fp32, {}, std::as_bytes(std::span(kNumbers).first(1))};
  CHECK(encode({scalar}, 1).find("output 'one'") == 0);
  CHECK(encode({scalar}, std::nullopt) == R"({"outputs":0.5})");
}

TEST_CASE("rows end at the limit, and malformed outputs are the instance's fault") {
  const ReplyTensor output = numbers();
  CHECK(encode_tf_reply({&output, 1}, 2, {.bytes = 20, .setting = "max_reply"}).error().reason ==
        reason::kTooLarge);
  const Shape endless{2, 1LL << 60, 0};
  const ReplyTensor claim{"y", DataType::Int64, endless, {}};
  CHECK(encode_tf_reply({&claim, 1}, 2, kLimit).error().reason == reason::kTooLarge);
  ReplyTensor cut = numbers();
  cut.bytes = cut.bytes.first(12);
  CHECK(encode_tf_reply({&cut, 1}, 2, kLimit).error().reason == reason::kBadReply);
}

TEST_CASE("a model's versions are listed from the newest on") {
  const VersionNumber versions[] = {{1}, {12}, {3}};
  CHECK(tf_model_status_json(std::span(versions).first(1)) ==
        R"({"model_version_status":[{"version":"1","state":"AVAILABLE",)"
        R"("status":{"error_code":"OK","error_message":""}}]})");
  const std::string all = tf_model_status_json(versions);
  CHECK(all.find(R"("12")") < all.find(R"("3")"));
  CHECK(all.find(R"("3")") < all.find(R"("1")"));
}

TEST_CASE("metadata gives the signature in TensorFlow's words") {
  const Signature signature{.inputs = {{"x", DataType::Fp32, {-1, 3}}, {"s", DataType::Bytes, {}}},
                            .outputs = {{"y", DataType::Int64, {-1}}}};
  CHECK(tf_model_metadata_json({.name = "m", .version = {7}, .signature = signature}) ==
        R"({"model_spec":{"name":"m","signature_name":"","version":"7"},"metadata":)"
        R"({"signature_def":{"signature_def":{"serving_default":{"inputs":{)"
        R"("x":{"dtype":"DT_FLOAT","tensor_shape":{"dim":[{"size":"-1","name":""},)"
        R"({"size":"3","name":""}],"unknown_rank":false},"name":"x:0"},)"
        R"("s":{"dtype":"DT_STRING","tensor_shape":{"dim":[],"unknown_rank":false},"name":"s:0"}},)"
        R"("outputs":{"y":{"dtype":"DT_INT64","tensor_shape":{"dim":[{"size":"-1","name":""}],)"
        R"("unknown_rank":false},"name":"y:0"}},)"
        R"("method_name":"tensorflow/serving/predict"}}}}})");
}
