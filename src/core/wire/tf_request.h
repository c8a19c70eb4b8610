// POST /v1/models/NAME:predict → the same InferRequest as /v2: the REST API of TensorFlow Serving.
//
//   {"instances": [1,2,3]}                      rows: for a model with one input, the values alone
//   {"instances": [{"a":1,"b":[1,2]}, …]}       or objects of inputs by name; every row names all
//   {"inputs": [[1,2],[3,4]]}                   columns: the one input whole
//   {"inputs": {"a": [1], "b": [[1,2]]}}        or whole inputs by name
//   "signature_name": "serving_default"         may stand beside; nothing else is served
//
// Rows are stacked along dimension 0. The shape is how the arrays nest and must be the model's:
// nothing is added or folded. An element of BYTES is a string or {"b64":"…"}; such an object is a
// value, unless the model has an input named b64. FP16 and BF16 take numbers and are rounded.
#pragma once

#include <string>

#include "base/result.h"
#include "core/tensor.h"
#include "core/wire/infer_request.h"
#include "core/wire/json_parser.h"
#include "core/wire/size_limit.h"

namespace mayfly {

// Every input is InputSource::Json, every output is wanted as JSON; `instances` is set for rows.
Result<InferRequest> decode_tf_request(JsonParser& parser, std::string body,
                                       const Signature& signature, const SizeLimit& limit);

}  // namespace mayfly
