// ModelInferRequest → tensors in their places, and tensors → ModelInferResponse. Pure.
//
//   check_infer_message(stream)                 before protobuf allocates anything
//   head_of(message)                            → bind_infer_request (core/wire/infer_head.h)
//   for each input: fill_input(message, …)      into its memory, unless it lies in shared memory
//
// A tensor is in raw_input_contents, in the order of the inputs, or in its own `contents`; a
// message uses one of the two. What lies in shared memory is in neither. Replies always use
// raw_output_contents, as clients expect.
#pragma once

#include <google/protobuf/io/zero_copy_stream.h>

#include <cstddef>
#include <cstdint>
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

struct GivenInput {
  std::size_t input = 0;  // which of the message's
  std::size_t raw = 0;    // which of its raw_input_contents, if there are any
};
// Of an input that is not in shared memory; `memory` is input.bytes long.
Status fill_input(const inference::ModelInferRequest& message, GivenInput given,
                  const InferInput& input, std::span<std::byte> memory);

// The bytes of a ModelInferResponse: the tensors' are copied once, to where they are sent from.
Result<std::string> encode_infer_response(const InferReply& reply, const SizeLimit& limit);

// Whether each answer is to say whether it is the last one of its request, and a function that
// streams has an empty one for that at the end: parameters.triton_enable_empty_final_response.
bool wants_final_response(const inference::ModelInferRequest& message);
// What says so, behind the bytes of a ModelInferResponse: parameters.triton_final_response.
enum class FinalResponse : std::uint8_t { No, Yes };
std::string final_response_mark(FinalResponse final_response);

// A ModelStreamInferResponse around the bytes of a ModelInferResponse.
std::string wrap_infer_response(std::string_view response);

}  // namespace mayfly
