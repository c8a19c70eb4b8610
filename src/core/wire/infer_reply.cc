#include "core/wire/infer_reply.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/reason.h"
#include "core/wire/json_text.h"
#include "core/wire/tensor_to_json.h"

namespace mayfly {
namespace {

void append_member(std::string& text, std::string_view key, std::string_view value) {
  text += key;
  append_json_string(text, value);
}

void append_shape(std::string& text, std::span<const std::int64_t> shape) {
  text += '[';
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ',';
    append_json_number(text, shape[i]);
  }
  text += ']';
}

Status append_data(std::string& text, const ReplyTensor& tensor, const SizeLimit& limit) {
  if (tensor.type == DataType::Fp16 || tensor.type == DataType::Bf16) {
    return refuse(reason::kInvalidInput,
                  fmt::format("sending {} data via JSON is not supported. Please use the binary "
                              "data format for output {}",
                              to_string(tensor.type), tensor.name));
  }
  text += R"(,"data":)";
  const Status written = append_json_tensor(text,
                                            {.type = tensor.type,
                                             .shape = tensor.shape,
                                             .bytes = tensor.bytes,
                                             .nesting = JsonNesting::Flat},
                                            limit);
  if (written) return {};
  return std::unexpected(written.error().in(fmt::format("output '{}'", tensor.name)));
}

void append_shared(std::string& text, const ReplyTensor& tensor) {
  append_member(text, R"(,"parameters":{"shared_memory_region":)", tensor.shared->region);
  text += R"(,"shared_memory_offset":)";
  append_json_number(text, tensor.shared->offset);
  text += R"(,"shared_memory_byte_size":)";
  append_json_number(text, std::uint64_t{tensor.bytes.size()});
  text += '}';
}

Status append_output(EncodedReply& encoded, const ReplyTensor& tensor, const SizeLimit& limit) {
  std::string& text = encoded.text;
  append_member(text, R"({"name":)", tensor.name);
  text += R"(,"datatype":")";
  text += to_string(tensor.type);
  text += R"(","shape":)";
  append_shape(text, tensor.shape);
  if (tensor.shared != nullptr) {
    append_shared(text, tensor);
  } else if (tensor.form == OutputForm::Json) {
    TRY(append_data(text, tensor, limit));
  } else {
    text += R"(,"parameters":{"binary_data_size":)";
    append_json_number(text, std::uint64_t{tensor.bytes.size()});
    text += '}';
    encoded.binary.push_back(tensor.bytes);
    encoded.binary_bytes += tensor.bytes.size();
    encoded.mixed = true;
  }
  text += '}';
  return {};
}

// Room for the text, so that most replies are built in one allocation: a number of up to 4 bytes
// has about 12 characters, anything else about 3 per byte at most.
std::size_t expected_size(const InferReply& reply) {
  std::size_t size = 128 + reply.model_name.size() + reply.id.size();
  for (const ReplyTensor& tensor : reply.outputs) {
    size += 96 + tensor.name.size();
    if (tensor.form == OutputForm::Json) size += tensor.bytes.size() * 3;
  }
  return size;
}

}  // namespace

Result<EncodedReply> encode_infer_reply(const InferReply& reply, const SizeLimit& limit) {
  EncodedReply encoded;
  std::string& text = encoded.text;
  text.reserve(std::min<std::size_t>(expected_size(reply), limit.bytes));
  append_member(text, R"({"model_name":)", reply.model_name);
  append_member(text, R"(,"model_version":)", reply.model_version);
  if (!reply.id.empty()) append_member(text, R"(,"id":)", reply.id);
  text += R"(,"outputs":[)";
  for (const ReplyTensor& tensor : reply.outputs) {
    if (&tensor != reply.outputs.data()) text += ',';
    TRY(append_output(encoded, tensor, limit));
  }
  text += "]}";
  if (text.size() > limit.bytes || encoded.binary_bytes > limit.bytes - text.size()) {
    return refuse_size("the reply", limit);
  }
  return encoded;
}

}  // namespace mayfly
