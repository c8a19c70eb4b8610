// The reply to POST /v1/models/NAME:predict, nested like the outputs' shapes.
//
//   {"predictions": [0.1, 0.9]}                      rows, where the request was in rows: values
//   {"predictions": [{"p":0.1,"label":"a"}, …]}      of the one output, or objects by name
//   {"outputs": [[0.1],[0.9]]}                       columns: the one output,
//   {"outputs": {"p": [0.1], "label": ["a"]}}        or outputs by name
//
// BYTES are strings, and {"b64":"…"} where they are not UTF-8 or the output's name ends in
// "_bytes".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "core/wire/infer_reply.h"
#include "core/wire/size_limit.h"

namespace mayfly {

// In rows, dimension 0 of every output must be `instances`. The outputs' form is not looked at.
Result<std::string> encode_tf_reply(std::span<const ReplyTensor> outputs,
                                    std::optional<std::uint64_t> instances, const SizeLimit& limit);

}  // namespace mayfly
