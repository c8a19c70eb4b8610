#include "grpc/infer_codec.h"

#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <array>
#include <string>
#include <vector>

#include "core/reason.h"
#include "grpc/message_bytes.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

constexpr SizeLimit kLimit{.bytes = 1 << 20, .setting = "max_body"};

Status checked(const std::string& bytes) {
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()), 5);
  return check_infer_message(stream);
}

// `count` fields of this tag, each empty.
std::string repeated(char tag, std::size_t count) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) bytes += {tag, '\0'};
  return bytes;
}

}  // namespace

TEST_CASE("messages of countless parts are refused wherever the parts are") {
  CHECK(checked(repeated(0x2a, kMaxTensors)).has_value());
  const std::string typed = repeated(0x42, 1024 * 1024 + 1);  // bytes_contents
  inference::ModelInferRequest inside;
  auto& input = *inside.add_inputs();
  REQUIRE(input.mutable_contents()->ParseFromString(typed));
  for (const std::string& bytes : {repeated(0x2a, kMaxTensors + 1),  // inputs
                                   repeated(0x32, kMaxTensors + 1),  // outputs
                                   repeated(0x3a, kMaxTensors + 1),  // raw_input_contents
                                   repeated(0x22, 5000),             // parameters
                                   inside.SerializeAsString()}) {
    const Status refused = checked(bytes);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().reason == reason::kTooLarge);
  }
}

TEST_CASE("a response is read back as it was meant, alone and in a stream") {
  const std::array<std::int64_t, 2> shape = {1, 2};
  const std::string content = "12345678";
  const ReplyTensor tensor{.name = "y",
                           .type = DataType::Fp32,
                           .shape = shape,
                           .bytes = std::as_bytes(std::span(content)),
                           .form = OutputForm::Binary};
  const InferReply reply{
      .model_name = "m", .model_version = "3", .id = "i", .outputs = {&tensor, 1}};
  const auto bytes = encode_infer_response(reply, kLimit);
  REQUIRE(bytes.has_value());
  inference::ModelStreamInferResponse wrapped;
  REQUIRE(wrapped.ParseFromString(wrap_infer_response(*bytes)));
  const inference::ModelInferResponse& response = wrapped.infer_response();
  CHECK(response.model_name() == "m");
  CHECK(response.model_version() == "3");
  CHECK(response.id() == "i");
  REQUIRE(response.outputs_size() == 1);
  CHECK(response.outputs(0).datatype() == "FP32");
  CHECK(response.outputs(0).shape(1) == 2);
  REQUIRE(response.raw_output_contents_size() == 1);
  CHECK(response.raw_output_contents(0) == content);
  CHECK_FALSE(encode_infer_response(reply, {.bytes = 10, .setting = "max_reply"}).has_value());
}

TEST_CASE("a message is read from a buffer of many pieces") {
  inference::ModelInferRequest message;
  message.set_model_name(std::string(1000, 'n'));
  const std::string bytes = message.SerializeAsString();
  std::vector<grpc::Slice> slices;
  for (std::size_t at = 0; at < bytes.size(); at += 7) slices.emplace_back(bytes.substr(at, 7));
  slices.insert(slices.begin() + 3, grpc::Slice());  // an empty one among them
  const grpc::ByteBuffer buffer(slices.data(), slices.size());
  inference::ModelInferRequest read;
  REQUIRE(parse_message(buffer, read).has_value());
  CHECK(read.model_name() == message.model_name());
  CHECK(parse_message(to_buffer("\xff"), read).error().reason == reason::kBadRequest);
}

TEST_CASE("an answer says behind its bytes whether it is the last one") {
  const InferReply reply{.model_name = "f", .model_version = "1", .id = "7", .outputs = {}};
  for (const FinalResponse final_response : {FinalResponse::No, FinalResponse::Yes}) {
    const std::string bytes =
        encode_infer_response(reply, kLimit).value() + final_response_mark(final_response);
    inference::ModelStreamInferResponse read;
    REQUIRE(read.ParseFromString(wrap_infer_response(bytes)));
    const inference::ModelInferResponse& answer = read.infer_response();
    CHECK(answer.id() == "7");
    CHECK(answer.model_name() == "f");
    CHECK(answer.parameters().at("triton_final_response").bool_param() ==
          (final_response == FinalResponse::Yes));
  }
}

TEST_CASE("who wants an empty last answer says so with true") {
  inference::ModelInferRequest request;
  CHECK_FALSE(wants_final_response(request));
  auto& wish = (*request.mutable_parameters())["triton_enable_empty_final_response"];
  wish.set_int64_param(1);
  CHECK_FALSE(wants_final_response(request));
  wish.set_bool_param(true);
  CHECK(wants_final_response(request));
}
