// The reply to POST /functions/NAME: {"probability":[[0.1,0.9]],"label":[1]}, every output by name,
// nested like its shape.
#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "core/wire/infer_reply.h"
#include "core/wire/size_limit.h"

namespace mayfly {

// FP16 and BF16 are written as numbers; BYTES that are not UTF-8 are refused. The outputs' form is
// not looked at.
Result<std::string> encode_plain_reply(std::span<const ReplyTensor> outputs,
                                       const SizeLimit& limit);

}  // namespace mayfly
