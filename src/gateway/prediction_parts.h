// What predictions.cc and prediction_stream.cc share. Internal to them.
#pragma once

#include <cstddef>

#include "core/wire/infer_request.h"
#include "gateway/predictions.h"
#include "sandbox/channel.h"
#include "serving/shared_tensors.h"

namespace mayfly {

// JSON beyond this is parsed and written on a pool: a large body must not hold up small ones.
inline constexpr std::size_t kLongText = 256 * 1024;

struct Predictions::Decoded {
  InferRequest request;
  RequestMemory memory;
  SharedTensors shared;
};

struct Predictions::Streaming {
  std::unique_ptr<Stream> stream;
  InferRequest request;
  Protocol protocol;
  std::optional<std::string> first;  // chunk; nullopt: there is none
};

// The lines of the function's own code that `error` came through, for callers who may read its
// logs; empty: there are none, the caller may not, or it is an event, whose reply is kept.
std::string_view traceback_for(const Invocation& tried, const Error& error);

}  // namespace mayfly
