// Values survive the trip: for every datatype, JSON and binary, what is encoded into a reply
// decodes from a request to the same bytes.
#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <string>

#include "core/reason.h"
#include "core/wire/infer_reply.h"
#include "core/wire/infer_request.h"
#include "core/wire/json_text.h"
#include "core/wire/plain_reply.h"
#include "core/wire/plain_request.h"
#include "core/wire/small_float.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

constexpr SizeLimit kLimit{.bytes = 64 << 20, .setting = "max_body"};

using Bytes = std::vector<std::byte>;

struct Tensor {
  DataType type;
  Shape shape;
  Bytes bytes;
};

void append(Bytes& bytes, std::string_view text) {
  const auto length = static_cast<std::uint32_t>(text.size());
  const auto prefix = std::as_bytes(std::span(&length, 1));
  bytes.insert(bytes.end(), prefix.begin(), prefix.end());
  const auto body = std::as_bytes(std::span(text));
  bytes.insert(bytes.end(), body.begin(), body.end());
}

std::string random_text(std::mt19937_64& random) {
  static const std::array<std::string_view, 9> kPieces = {
      "a", "\"", "\\", std::string_view("\0", 1), "\n", "é", "日", "😀", "plain text"};
  std::string text;
  for (std::uint64_t i = random() % 12; i > 0; --i) text += kPieces.at(random() % kPieces.size());
  if (random() % 16 == 0) text += std::string(70'000, 'x');
  return text;
}

// Random bits, with NaN made the one NaN that JSON has.
template <typename Real>
void settle_nan(Bytes& bytes) {
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(Real)) {
    Real value;
    std::memcpy(&value, &bytes[at], sizeof(Real));
    if (std::isnan(value)) value = std::numeric_limits<Real>::quiet_NaN();
    std::memcpy(&bytes[at], &value, sizeof(Real));
  }
}

void settle_half_nan(Bytes& bytes, DataType type) {
  for (std::size_t at = 0; at < bytes.size(); at += 2) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, &bytes[at], 2);
    const bool fp16 = type == DataType::Fp16;
    if (std::isnan(fp16 ? fp16_to_float(bits) : bf16_to_float(bits))) bits = fp16 ? 0x7E00 : 0x7FC0;
    std::memcpy(&bytes[at], &bits, 2);
  }
}

Tensor random_tensor(DataType type, Shape shape, std::mt19937_64& random) {
  Tensor tensor{.type = type, .shape = std::move(shape), .bytes = {}};
  const std::uint64_t count = element_count(tensor.shape).value();
  if (type == DataType::Bytes) {
    for (std::uint64_t i = 0; i < count; ++i) append(tensor.bytes, random_text(random));
    return tensor;
  }
  tensor.bytes.resize(count * element_size(type));
  for (std::byte& byte : tensor.bytes) {
    byte = static_cast<std::byte>(type == DataType::Bool ? random() % 2 : random());
  }
  if (type == DataType::Fp32) settle_nan<float>(tensor.bytes);
  if (type == DataType::Fp64) settle_nan<double>(tensor.bytes);
  if (type == DataType::Fp16 || type == DataType::Bf16) settle_half_nan(tensor.bytes, type);
  return tensor;
}

Signature signature_of(const Tensor& tensor) {
  return {.inputs = {{"t", tensor.type, Shape(tensor.shape.size(), -1)}}, .outputs = {}};
}

ReplyTensor reply_of(const Tensor& tensor, OutputForm form) {
  return {
      .name = "t", .type = tensor.type, .shape = tensor.shape, .bytes = tensor.bytes, .form = form};
}

// The reply's outputs are written like a request's inputs: only the key differs.
std::string as_request(std::string reply) {
  reply.replace(reply.find("\"outputs\""), 9, "\"inputs\"");
  return reply;
}

Bytes read_back(const InferRequest& request, const EncodedReply& reply) {
  const InferInput& input = request.inputs.at(0);
  Bytes memory(input.bytes);
  if (input.source == InputSource::Json) {
    REQUIRE(read_json_input(input, memory).has_value());
    return memory;
  }
  const std::span<std::byte> into = receive_input(input, memory);
  REQUIRE(into.size() == reply.binary.at(0).size());
  std::ranges::copy(reply.binary[0], into.begin());
  REQUIRE(check_received_input(input, memory).has_value());
  return memory;
}

void check_infer(const Tensor& tensor, OutputForm form) {
  const ReplyTensor output = reply_of(tensor, form);
  const auto reply = encode_infer_reply(
      {.model_name = "m", .model_version = "1", .id = "i", .outputs = {&output, 1}}, kLimit);
  REQUIRE(reply.has_value());
  JsonParser parser;
  const auto request =
      decode_infer_request(parser, as_request(reply->text), signature_of(tensor), kLimit);
  REQUIRE(request.has_value());
  CHECK(request->binary_bytes == reply->binary_bytes);
  CHECK(reply->mixed == (form == OutputForm::Binary));
  CHECK(request->inputs[0].shape == tensor.shape);
  CHECK(read_back(*request, *reply) == tensor.bytes);
}

void check_plain(const Tensor& tensor) {
  const ReplyTensor output = reply_of(tensor, OutputForm::Json);
  const auto text = encode_plain_reply({&output, 1}, kLimit);
  REQUIRE(text.has_value());
  JsonParser parser;
  const Signature signature{.inputs = {{"t", tensor.type, tensor.shape}}, .outputs = {}};
  const auto request = decode_plain_request(parser, *text, signature, kLimit);
  REQUIRE(request.has_value());
  Bytes memory(request->inputs[0].bytes);
  REQUIRE(read_json_input(request->inputs[0], memory).has_value());
  CHECK(memory == tensor.bytes);
}

}  // namespace

TEST_CASE("every datatype, shape and form survives the trip bit for bit") {
  const Shape shapes[] = {{}, {1}, {0}, {7}, {2, 3}, {2, 0}, {3, 1, 2}, {1, 1, 1, 5}, {2, 0, 3}};
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    std::mt19937_64 random(seed);
    for (std::uint8_t raw = 1; is_known(raw); ++raw) {
      for (const Shape& shape : shapes) {
        const Tensor tensor = random_tensor(static_cast<DataType>(raw), shape, random);
        INFO("seed ", seed, " ", to_string(tensor.type), " ", to_string(shape));
        check_infer(tensor, OutputForm::Binary);
        const bool json = tensor.type != DataType::Fp16 && tensor.type != DataType::Bf16;
        if (json) check_infer(tensor, OutputForm::Json);
        // [2,0,3] reads back as [2,0]: nothing is left that could show the 3.
        if (element_count(shape).value() > 0) check_plain(tensor);
      }
    }
  }
}

TEST_CASE("a mixed reply sends its binary outputs in the order of the text, uncopied") {
  const float a[] = {1.5F};
  const std::int64_t b[] = {-1, 2};
  const Shape one{1};
  const Shape two{2};
  const ReplyTensor outputs[] = {
      {"a", DataType::Fp32, one, std::as_bytes(std::span(a)), OutputForm::Binary},
      {"j", DataType::Int64, two, std::as_bytes(std::span(b)), OutputForm::Json},
      {"b", DataType::Int64, two, std::as_bytes(std::span(b)), OutputForm::Binary}};
  const auto reply = encode_infer_reply(
      {.model_name = "m", .model_version = "3", .id = "", .outputs = outputs}, kLimit);
  REQUIRE(reply.has_value());
  CHECK(reply->text ==
        R"({"model_name":"m","model_version":"3","outputs":[)"
        R"({"name":"a","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}},)"
        R"({"name":"j","datatype":"INT64","shape":[2],"data":[-1,2]},)"
        R"({"name":"b","datatype":"INT64","shape":[2],"parameters":{"binary_data_size":16}}]})");
  REQUIRE(reply->binary.size() == 2);
  CHECK(reply->binary[0].data() == static_cast<const void*>(a));
  CHECK(reply->binary[1].data() == static_cast<const void*>(b));
  CHECK(reply->binary_bytes == 20);
}

TEST_CASE("what JSON cannot carry is refused with the advice to ask for binary data") {
  const Shape one{1};
  const std::array<std::byte, 6> bytes = {std::byte{2},   {}, {}, {}, std::byte{0xff},
                                          std::byte{0xfe}};
  const ReplyTensor text{"t", DataType::Bytes, one, bytes, OutputForm::Json};
  const auto not_utf8 = encode_infer_reply({"m", "1", "", {&text, 1}}, kLimit);
  REQUIRE_FALSE(not_utf8.has_value());
  CHECK(not_utf8.error().message.find("output 't'") == 0);
  CHECK(not_utf8.error().message.find("ask for binary data") != std::string::npos);
  const ReplyTensor half{"h", DataType::Fp16, one, std::span(bytes).first(2), OutputForm::Json};
  const auto no_json = encode_infer_reply({"m", "1", "", {&half, 1}}, kLimit);
  REQUIRE_FALSE(no_json.has_value());
  CHECK(no_json.error().message.find("Please use the binary data format for output h") !=
        std::string::npos);
}

TEST_CASE("a reply never grows beyond its limit, and lies about lengths are found") {
  const Shape shape{2};
  const SizeLimit small{.bytes = 120, .setting = "max_reply"};
  const std::array<std::byte, 16> zeros{};
  const ReplyTensor binary{"t", DataType::Int64, shape, zeros, OutputForm::Binary};
  CHECK(encode_infer_reply({"m", "1", "", {&binary, 1}}, kLimit).has_value());
  CHECK(encode_infer_reply({"m", "1", "", {&binary, 1}}, small).error().reason ==
        reason::kTooLarge);
  std::array<std::byte, 8> lie{};
  lie[0] = std::byte{200};
  for (const std::span<const std::byte> bytes :
       {std::span<const std::byte>(lie), std::span<const std::byte>(zeros).first(4),
        std::span<const std::byte>()}) {
    const ReplyTensor text{"t", DataType::Bytes, shape, bytes, OutputForm::Json};
    CHECK(encode_infer_reply({"m", "1", "", {&text, 1}}, kLimit).error().reason ==
          reason::kBadReply);
  }
  const ReplyTensor brief{"t", DataType::Int64, shape, std::span(zeros).first(8), OutputForm::Json};
  CHECK(encode_infer_reply({"m", "1", "", {&brief, 1}}, kLimit).error().reason ==
        reason::kBadReply);
}

TEST_CASE("text is escaped, and made UTF-8 where it is not") {
  std::string out;
  append_json_string(out, std::string_view("a\"\\\n\x01\0é", 8));
  CHECK(out == R"("a\"\\\n\u0001\u0000é")");
  out.clear();
  append_json_string(out, "x\xff\xc3(\xe6\x97");
  CHECK(out == "\"x\uFFFD\uFFFD(\uFFFD\uFFFD\"");
}
