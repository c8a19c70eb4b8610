#include "core/wire/document.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/function_options.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kPrefix = sizeof(std::uint32_t);

void append_element(std::string& text, std::string_view element) {
  const auto length = static_cast<std::uint32_t>(element.size());
  text.append(reinterpret_cast<const char*>(&length), sizeof length);
  text.append(element);
}

// The inputs look into `request.text`, which holds the content type as an element of BYTES and,
// where it is here, the body behind it.
Result<InferRequest> request_with(std::string text, std::size_t type_bytes,
                                  std::uint64_t body_bytes, InputSource source,
                                  const Signature& signature) {
  if (signature != document_signature())
    return refuse(reason::kInternal, "a function of documents has another signature");
  InferRequest request;
  request.text = std::move(text);
  const std::string_view all = request.text;
  InferInput body{.index = 0,
                  .name = signature.inputs[0].name,
                  .type = DataType::Uint8,
                  .form = InputForm::Document,
                  .source = source,
                  .shape = {static_cast<std::int64_t>(body_bytes)},
                  .bytes = body_bytes,
                  .json = all.substr(type_bytes)};
  InferInput type{.index = 1,
                  .name = signature.inputs[1].name,
                  .type = DataType::Bytes,
                  .source = InputSource::Text,
                  .shape = {1},
                  .bytes = type_bytes,
                  .json = all.substr(0, type_bytes)};
  if (source == InputSource::Raw) request.binary_bytes = body_bytes;
  request.inputs.push_back(std::move(body));
  request.inputs.push_back(std::move(type));
  request.outputs = {{.index = 0}, {.index = 1}};
  return request;
}

Result<std::string> content_type_element(std::string_view content_type) {
  if (content_type.size() > kMaxContentType) {
    return refuse(reason::kUnsupportedMedia,
                  fmt::format("the Content-Type is longer than {} bytes", kMaxContentType));
  }
  // On the heap however short it is: the inputs that look into it stay true when it moves.
  std::string text;
  text.reserve(64);
  append_element(text, content_type);
  return text;
}

// The one element of a BYTES tensor in shared memory: its length is read once.
Result<std::span<const std::byte>> element_of(const ReplyTensor& tensor) {
  const auto bad = [](std::string_view why) {
    return refuse(reason::kBadReply, fmt::format("the instance's reply is malformed: {}", why));
  };
  if (tensor.bytes.size() < kPrefix || tensor.shape.size() != 1 || tensor.shape[0] != 1)
    return bad("no document");
  std::uint32_t length = 0;
  std::memcpy(&length, tensor.bytes.data(), sizeof length);
  if (length != tensor.bytes.size() - kPrefix) return bad("a document of another length");
  return tensor.bytes.subspan(kPrefix);
}

}  // namespace

Result<InferRequest> document_request(std::uint64_t body_bytes, std::string_view content_type,
                                      const Signature& signature) {
  std::string text = TRY(content_type_element(content_type));
  const std::size_t type_bytes = text.size();
  if (body_bytes > INT64_MAX) return refuse(reason::kTooLarge, "the body is too large");
  return request_with(std::move(text), type_bytes, body_bytes, InputSource::Raw, signature);
}

Result<InferRequest> document_request(std::string_view body, std::string_view content_type,
                                      const Signature& signature) {
  std::string text = TRY(content_type_element(content_type));
  const std::size_t type_bytes = text.size();
  text.append(body);
  return request_with(std::move(text), type_bytes, body.size(), InputSource::Text, signature);
}

Result<Document> read_document(std::span<const ReplyTensor> outputs) {
  if (outputs.size() != 2) return refuse(reason::kBadReply, "the reply is no document");
  const std::span<const std::byte> body = TRY(element_of(outputs[0]));
  const std::span<const std::byte> type = TRY(element_of(outputs[1]));
  if (type.size() > kMaxContentType)
    return refuse(reason::kBadReply, "the reply's content type is too long");
  // Copied before it is looked at.
  std::string content_type(reinterpret_cast<const char*>(type.data()), type.size());
  const auto printable = [](char c) { return c >= ' ' && c <= '~'; };
  if (content_type.empty() || !std::ranges::all_of(content_type, printable))
    return refuse(reason::kBadReply, "the reply's content type is no printable text");
  return Document{.body = body, .content_type = std::move(content_type)};
}

}  // namespace mayfly
