// POST /functions/NAME of a function without types (document_signature() of
// core/function_options.h): the body goes to it as it came, with its content type, and so does its
// reply come back. Nothing here looks into either.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "core/tensor.h"
#include "core/wire/infer_reply.h"
#include "core/wire/infer_request.h"

namespace mayfly {

inline constexpr std::size_t kMaxContentType = 256;

// The body's `body_bytes` follow (InputSource::Raw).
Result<InferRequest> document_request(std::uint64_t body_bytes, std::string_view content_type,
                                      const Signature& signature);
// The body is here.
Result<InferRequest> document_request(std::string_view body, std::string_view content_type,
                                      const Signature& signature);

struct Document {
  std::span<const std::byte> body;  // the reply's own memory
  std::string content_type;         // printable ASCII
};
// Reason bad_reply for what no document is: the function's process wrote it.
Result<Document> read_document(std::span<const ReplyTensor> outputs);

}  // namespace mayfly
