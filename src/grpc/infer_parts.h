// What infer_method.cc and infer_stream.cc share. Internal to them.
#pragma once

#include <string>

#include "core/wire/infer_request.h"
#include "grpc/inference_service.h"
#include "sandbox/channel.h"
#include "serving/invoker.h"
#include "serving/shared_tensors.h"

namespace mayfly {

// The request, with its tensors where they are run from.
struct InferenceService::Placed {
  InferRequest request;
  RequestMemory memory;
  SharedTensors shared;
};

struct InferenceService::Asked {
  Placed placed;  // but for its memory, which is the question's
  Invoker::Question question;
  bool wants_final = false;  // see wants_final_response()
};

}  // namespace mayfly
