// The gRPC front door: from a call's method to the service that answers it. Loop thread.
#pragma once

#include "async/task.h"
#include "gateway/callers.h"
#include "grpc/health_service.h"
#include "grpc/inference_service.h"
#include "grpc/rpc.h"

namespace mayfly {

class GrpcGateway {
 public:
  // All outlive me.
  GrpcGateway(InferenceService& inference, HealthService& health, Callers& callers)
      : inference_(inference), health_(health), callers_(callers) {}

  // unsupported: no such service or method. unauthenticated: the node has keys, and the metadata
  // `authorization` holds none that is valid. Health needs none.
  Task<Status> handle(Rpc& rpc);

 private:
  Status identify(Rpc& rpc);
  Task<Status> serve(Rpc& rpc);

  InferenceService& inference_;
  HealthService& health_;
  Callers& callers_;
};

}  // namespace mayfly
