// POST /v2/models/NAME/infer → inputs ready to be placed (Open Inference Protocol v2 with the
// binary tensor extension). Also the value that the other front doors decode to.
//
//   body = JSON part | binary tensor | binary tensor | …    (in the order of the JSON part's
//   inputs)
//          ^^^^^^^^^ Inference-Header-Content-Length bytes; without that header the whole body;
//                    0: no JSON at all, the body is the one input ("raw mode")
//
// Two steps, so that tensors go straight to where they stay. First the JSON part alone is decoded:
// it says what each input is and how many bytes it occupies. Then, once memory is planned, every
// input is either read from the JSON text, which the request keeps alive, or received from the rest
// of the body:
//
//   request = decode_infer_request(parser, json_part, signature, limit)
//   for each input i with its memory:
//     source Json:          read_json_input(input, memory)
//     source Binary or Raw: receive into receive_input(input, memory); check_received_input(…)
//     source Shared:        copy from input.shared into memory; check_received_input(…)
//
// Every refusal names the input and what was expected. Nothing is allocated in proportion to a
// number in the request: a shape must be covered by bytes that are there or announced.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "core/tensor.h"
#include "core/wire/json_base64.h"
#include "core/wire/json_parser.h"
#include "core/wire/size_limit.h"

namespace mayfly {

// Bytes that a client laid, or wants to have laid, into shared memory that he has registered.
struct SharedRange {
  std::string region;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

enum class InputSource : std::uint8_t {
  Json,    // in the JSON part
  Binary,  // in the rest of the body: exactly `bytes`
  Raw,     // the rest of the body is this tensor, or the one element of a BYTES tensor
  Shared,  // in `shared`, laid out as Binary
  Text,    // in `json`, laid out as Binary
};

struct InferInput {
  std::uint32_t index = 0;  // in the signature's inputs
  std::string_view name;    // the signature's
  DataType type = DataType::Fp32;
  InputForm form = InputForm::Tensor;
  InputSource source = InputSource::Json;
  Shape shape;
  std::uint64_t bytes = 0;                 // of the tensor in memory
  std::string_view json = {};              // its array in InferRequest::text
  std::optional<Shape> nesting = {};       // of that array, where it is not `shape`
  JsonBytes json_bytes = JsonBytes::Text;  // what its elements are, where they are BYTES
  std::optional<SharedRange> shared = {};
};

enum class OutputForm : std::uint8_t { Json, Binary };

struct InferOutput {
  std::uint32_t index = 0;  // in the signature's outputs
  OutputForm form = OutputForm::Json;
  std::uint64_t classes =
      0;  // more than 0: its highest so many instead (core/wire/classification.h)
  std::optional<SharedRange> shared = {};  // where its bytes go instead of into the reply
};

// Move-only: the inputs look into `text`. The signature outlives it.
struct InferRequest {
  InferRequest() = default;
  InferRequest(InferRequest&&) = default;
  InferRequest& operator=(InferRequest&&) = default;

  std::string id;                          // echoed in the reply; empty: none was given
  std::optional<Duration> timeout;         // parameters.timeout
  std::uint64_t priority = 0;              // parameters.priority; 0: none is named
  std::vector<InferInput> inputs;          // in the order of the request, all of the signature's
  std::vector<InferOutput> outputs;        // in the order of the reply
  std::optional<std::uint64_t> instances;  // rows that were stacked; the reply is as many rows
  std::uint64_t binary_bytes = 0;          // of the body after the JSON part
  std::string text;                        // the JSON part
};

// "225": the value of Inference-Header-Content-Length.
Result<std::uint64_t> parse_json_part_length(std::string_view header);

// `limit` bounds JSON part and binary tensors together.
Result<InferRequest> decode_infer_request(JsonParser& parser, std::string json_part,
                                          const Signature& signature, const SizeLimit& limit);

// Raw mode: a body of `body_bytes` for a model with one input. A leading free dimension is the
// batch and becomes 1, another one is computed from the size; all outputs are binary.
Result<InferRequest> raw_infer_request(std::uint64_t body_bytes, const Signature& signature);

// Whether `following` bytes after the JSON part are what its inputs announce.
Status check_binary_size(const InferRequest& request, std::uint64_t following);

// `memory` is input.bytes long.
Status read_json_input(const InferInput& input, std::span<std::byte> memory);
// The part of `memory` that the body's next bytes fill.
std::span<std::byte> receive_input(const InferInput& input, std::span<std::byte> memory);
// Looks into what was received: lengths inside BYTES, values of BOOL.
Status check_received_input(const InferInput& input, std::span<const std::byte> memory);

// For the front doors' own checks: "input 'x': <message>".
std::unexpected<Error> refuse_input(std::string_view name, std::string_view message);
// Every input of the signature is there; and where inputs and outputs all begin with a free
// dimension, which stands for rows, not one input is empty beside another that is not: kernels that
// skip an empty input leave memory as it was, and answer with what an earlier request left there.
Status check_complete(std::span<const InferInput> inputs, const Signature& signature);
// Plans a JSON input whose type, shape and text are set: its size, checked against the text.
Status size_json_input(InferInput& input);

}  // namespace mayfly
