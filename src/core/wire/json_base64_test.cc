#include "core/wire/json_base64.h"

#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "core/reason.h"
#include "core/wire/tensor_from_json.h"
#include "core/wire/tensor_to_json.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

constexpr SizeLimit kLimit{.bytes = 1 << 20, .setting = "max_reply"};

std::optional<std::string> read_base64(std::string_view object) {
  JsonScanner in(object);
  std::string bytes;
  if (!take_json_base64(in, [&](std::string_view piece) { bytes += piece; })) return std::nullopt;
  return bytes;
}

std::vector<std::byte> bytes_tensor(std::initializer_list<std::string_view> elements) {
  std::vector<std::byte> tensor;
  for (const std::string_view element : elements) {
    const auto length = static_cast<std::uint32_t>(element.size());
    const auto prefix = std::as_bytes(std::span(&length, 1));
    tensor.insert(tensor.end(), prefix.begin(), prefix.end());
    const auto body = std::as_bytes(std::span(element));
    tensor.insert(tensor.end(), body.begin(), body.end());
  }
  return tensor;
}

}  // namespace

TEST_CASE("base64 reads back as what was written, with its padding and without") {
  // RFC 4648, section 10, and both ends of the alphabet.
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"", ""},
      {"f", "Zg=="},
      {"fo", "Zm8="},
      {"foo", "Zm9v"},
      {"foob", "Zm9vYg=="},
      {"fooba", "Zm9vYmE="},
      {"foobar", "Zm9vYmFy"},
      {"\xFB\xFF\xBF", "+/+/"},
  };
  for (const auto& [bytes, base64] : cases) {
    const std::string object = R"({"b64":")" + std::string(base64) + "\"}";
    std::string written;
    append_json_base64(written, bytes);
    CHECK(written == object);
    CHECK(read_base64(object) == bytes);
    const std::string unpadded(base64.substr(0, base64.find('=')));
    CHECK(read_base64(R"( { "b64" : ")" + unpadded + "\" } ") == bytes);
  }
  CHECK(read_base64(R"({"b64":"+\/+\u002F"})") == "\xFB\xFF\xBF");
}

TEST_CASE("what is no base64 is no value") {
  for (const char* object :
       {R"({"b64":"Z"})", R"({"b64":"Zg="})", R"({"b64":"Zg==="})", R"({"b64":"Zg==Zg=="})",
        R"({"b64":"="})", R"({"b64":"Zm9v="})", R"({"b64":"Zm 9"})", R"({"b64":"-_-_"})",
        R"({"b64":"Zg==","x":1})", R"({"b64":1})", R"({"b65":"Zg=="})", R"({})", R"({"b64":"Zg==")",
        R"({"b64":"Zg)", R"("Zg==")"}) {
    INFO(object);
    CHECK_FALSE(read_base64(object).has_value());
  }
}

TEST_CASE("BYTES are read from base64 only where that was said") {
  const std::string_view text = R"([["a",{"b64":"AP8="}],[{"b64":""},"\u00e9"]])";
  const Shape shape{2, 2};
  CHECK_FALSE(json_nesting(text).has_value());
  CHECK_FALSE(json_bytes_size(text, shape).has_value());
  REQUIRE(json_nesting(text, JsonBytes::TextOrBase64).has_value());
  CHECK(json_nesting(text, JsonBytes::TextOrBase64).value() == shape);
  const auto expected = bytes_tensor({"a", std::string_view("\0\xFF", 2), "", "\xC3\xA9"});
  REQUIRE(json_bytes_size(text, shape, JsonBytes::TextOrBase64).value() == expected.size());
  std::vector<std::byte> memory(expected.size());
  REQUIRE(read_json_tensor(text, DataType::Bytes, shape, memory, JsonBytes::TextOrBase64));
  CHECK(memory == expected);

  const auto wrong = json_bytes_size(R"(["a",{"b64":"?"}])", Shape{2}, JsonBytes::TextOrBase64);
  REQUIRE_FALSE(wrong.has_value());
  CHECK(wrong.error().message.find("element 1 is an object") != std::string::npos);
  CHECK_FALSE(json_nesting(R"([{"x":1}])", JsonBytes::TextOrBase64).has_value());
}

TEST_CASE("a tensor is written row by row") {
  const Shape shape{2, 2};
  const auto strings = bytes_tensor({"a", "\xFF", "", "b\n"});
  JsonTensor text{.type = DataType::Bytes,
                  .shape = shape,
                  .bytes = strings,
                  .elements = JsonBytes::TextOrBase64};
  const std::array<std::int32_t, 4> numbers{1, -2, 3, 4};
  JsonTensor table{
      .type = DataType::Int32, .shape = shape, .bytes = std::as_bytes(std::span(numbers))};
  std::string out;
  REQUIRE(append_json_row(out, text, kLimit));
  REQUIRE(append_json_row(out, table, kLimit));
  CHECK(out == R"(["a",{"b64":"/w=="}][1,-2])");
  out.clear();
  REQUIRE(append_json_row(out, text, kLimit));
  REQUIRE(append_json_row(out, table, kLimit));
  CHECK(out == R"(["","b\n"][3,4])");
  CHECK(text.bytes.empty());
  CHECK(append_json_row(out, text, kLimit).error().reason == reason::kBadReply);
  CHECK(append_json_row(out, table, kLimit).error().reason == reason::kBadReply);
}

TEST_CASE("BYTES are written as base64 where they must or shall") {
  const Shape shape{2};
  const auto strings = bytes_tensor({"a", "\xFF"});
  JsonTensor tensor{.type = DataType::Bytes, .shape = shape, .bytes = strings};
  std::string out;
  CHECK(append_json_tensor(out, tensor, kLimit).error().reason == reason::kInvalidInput);
  tensor.elements = JsonBytes::Base64;
  out.clear();
  REQUIRE(append_json_tensor(out, tensor, kLimit));
  CHECK(out == R"([{"b64":"YQ=="},{"b64":"/w=="}])");
}
