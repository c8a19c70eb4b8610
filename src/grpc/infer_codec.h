// ModelInferRequest → tensors in their places, and tensors → ModelInferResponse. Pure.
//
//   check_infer_message(stream)                 before protobuf allocates anything
//   head_of(message)                            → bind_infer_request (core/wire/infer_head.h)
//   for each input: fill_input(message, …)      into its memory
//
// A tensor is in raw_input_contents, the i-th of the i-th input, or in its own `contents`; a
// message uses one of the two. Replies always use raw_output_contents, as clients expect.
#pragma once

#include <google/protobuf/io/zero_copy_stream.h>

#include <cstddef>
#include <span>
#include <string>

#include "base/result.h"
#include "core/wire/infer_head.h"
#include "core/wire/infer_reply.h"
#include "core/wire/size_limit.h"
#include "open_inference.pb.h"

namespace mayfly {

// Counts what would become objects far larger than their bytes: tensors, parameters, elements of
// BYTES. Malformed messages pass: protobuf refuses them.
Status check_infer_message(google::protobuf::io::ZeroCopyInputStream& stream);

// The views live as long as the message.
Result<InferHead> head_of(const inference::ModelInferRequest& message);

// `given`: which of the message's inputs it is; `memory` is input.bytes long.
Status fill_input(const inference::ModelInferRequest& message, std::size_t given,
                  const InferInput& input, std::span<std::byte> memory);

// The bytes of a ModelInferResponse: the tensors' are copied once, to where they are sent from.
Result<std::string> encode_infer_response(const InferReply& reply, const SizeLimit& limit);

// A ModelStreamInferResponse around the bytes of a ModelInferResponse.
std::string wrap_infer_response(std::string_view response);

}  // namespace mayfly
