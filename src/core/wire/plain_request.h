// POST /functions/NAME → the same InferRequest as /v2: named inputs as plain JSON, for people and
// plain applications.
//
//   {"age": [41], "x": [[1,2],[3,4]], "s": "text"}     by name
//   [[1,2],[3,4]]   or   41                            for a model with one input
//
// The shape is how the arrays nest. Where the signature has more dimensions than that, the missing
// ones are 1 and stand in front (the batch: a row [1,2] for [-1,2] is [1,2]) or, where only that
// fits, at the end (a column [1,2,3] for [-1,1] is [3,1]). A flat array is never folded otherwise.
// FP16 and BF16 take numbers here; they are rounded.
#pragma once

#include <string>

#include "base/result.h"
#include "core/tensor.h"
#include "core/wire/infer_request.h"
#include "core/wire/json_parser.h"
#include "core/wire/size_limit.h"

namespace mayfly {

// Every input is InputSource::Json, every output is wanted as JSON.
Result<InferRequest> decode_plain_request(JsonParser& parser, std::string body,
                                          const Signature& signature, const SizeLimit& limit);

// POST /v2/models/NAME/generate[_stream]: an object of inputs by name, as above. "parameters" holds
// further inputs, timeout (µs) and priority; what else stands there, and "id", is nobody's.
Result<InferRequest> decode_generate_request(JsonParser& parser, std::string body,
                                             const Signature& signature, const SizeLimit& limit);

}  // namespace mayfly
