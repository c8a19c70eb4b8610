// The reply to POST /v2/models/NAME/infer: JSON text, followed by the binary tensors in its order.
// Binary tensors are not copied: the reply lists what to send after the text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/tensor.h"
#include "core/wire/infer_request.h"
#include "core/wire/size_limit.h"

namespace mayfly {

struct ReplyTensor {
  std::string_view name;
  DataType type = DataType::Fp32;
  std::span<const std::int64_t> shape;
  std::span<const std::byte> bytes;  // may change while it is read: data, never control
  OutputForm form = OutputForm::Json;
  const SharedRange* shared = nullptr;  // not null: its bytes are there, and not in the reply
};

struct InferReply {
  std::string_view model_name;
  std::string_view model_version;
  std::string_view id;  // empty: the request had none
  std::span<const ReplyTensor> outputs;
};

struct EncodedReply {
  std::string text;
  std::vector<std::span<const std::byte>> binary;  // the tensors' own memory, in sending order
  std::uint64_t binary_bytes = 0;
  // With any binary output: Inference-Header-Content-Length is text.size() and the content type is
  // application/octet-stream. Without, application/json.
  bool mixed = false;
};

// `limit` bounds text and binary together. FP16, BF16 and BYTES that are not UTF-8 are refused as
// JSON, with the advice to ask for binary data.
Result<EncodedReply> encode_infer_reply(const InferReply& reply, const SizeLimit& limit);

}  // namespace mayfly
