#include "core/wire/document.h"

#include <array>
#include <cstring>
#include <vector>

#include "core/function_options.h"
#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

std::vector<std::byte> element(std::string_view text, std::uint32_t length) {
  std::vector<std::byte> bytes(sizeof length + text.size());
  std::memcpy(bytes.data(), &length, sizeof length);
  std::memcpy(bytes.data() + sizeof length, text.data(), text.size());
  return bytes;
}
std::vector<std::byte> element(std::string_view text) {
  return element(text, static_cast<std::uint32_t>(text.size()));
}

constexpr std::array<std::int64_t, 1> kOne = {1};

Result<Document> read(const std::vector<std::byte>& body, const std::vector<std::byte>& type) {
  const std::array tensors = {
      ReplyTensor{.name = "body", .type = DataType::Bytes, .shape = kOne, .bytes = body},
      ReplyTensor{.name = "content_type", .type = DataType::Bytes, .shape = kOne, .bytes = type}};
  return read_document(tensors);
}

}  // namespace

TEST_CASE("a body that follows is received, its content type is there already") {
  const Signature signature = document_signature();
  const auto request = document_request(std::uint64_t{5}, "text/plain", signature);
  REQUIRE(request.has_value());
  CHECK(request->binary_bytes == 5);
  REQUIRE(request->inputs.size() == 2);
  CHECK(request->inputs[0].source == InputSource::Raw);
  CHECK(request->inputs[0].form == InputForm::Document);
  CHECK(request->inputs[0].bytes == 5);
  const std::vector<std::byte> type = element("text/plain");
  CHECK(request->inputs[1].json ==
        std::string_view(reinterpret_cast<const char*>(type.data()), type.size()));
}

TEST_CASE("a body that is here lies behind its content type") {
  const Signature signature = document_signature();
  const auto request = document_request(std::string_view("{\"x\":1}"), "", signature);
  REQUIRE(request.has_value());
  CHECK(request->inputs[0].source == InputSource::Text);
  CHECK(request->inputs[0].json == "{\"x\":1}");
  CHECK(request->inputs[0].shape == Shape{7});
  CHECK(request->binary_bytes == 0);
}

TEST_CASE("a content type that is too long is refused") {
  const auto request =
      document_request(std::uint64_t{0}, std::string(300, 'x'), document_signature());
  CHECK(request.error().reason == reason::kUnsupportedMedia);
}

TEST_CASE("a reply is its bytes and their type") {
  const auto body = element("abc");
  const auto type = element("image/png; q=1");
  const auto document = read(body, type);
  REQUIRE(document.has_value());
  CHECK(document->content_type == "image/png; q=1");
  CHECK(document->body.size() == 3);
  const auto nothing = element("");
  CHECK(read(nothing, type)->body.empty());
}

TEST_CASE("what no document is, is the function's malformed reply") {
  const auto good = element("text/plain");
  const auto body = element("x");
  const auto reason_of = [](const Result<Document>& read) {
    return read ? std::string("none") : std::string(read.error().reason);
  };
  CHECK(reason_of(read(element("x", 5), good)) == reason::kBadReply);
  CHECK(reason_of(read({std::byte{1}}, good)) == reason::kBadReply);
  CHECK(reason_of(read(body, element(""))) == reason::kBadReply);
  CHECK(reason_of(read(body, element("a/b\r\nSet-Cookie: x=1"))) == reason::kBadReply);
  CHECK(reason_of(read(body, element(std::string(257, 'x')))) == reason::kBadReply);
  CHECK(reason_of(read_document({})) == reason::kBadReply);
}
