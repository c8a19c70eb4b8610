// The gRPC front door: from a call's method to the service that answers it. Loop thread.
#pragma once

#include "async/task.h"
#include "grpc/health_service.h"
#include "grpc/inference_service.h"
#include "grpc/rpc.h"

namespace mayfly {

class GrpcGateway {
 public:
  GrpcGateway(InferenceService& inference, HealthService& health)  // both outlive me
      : inference_(inference), health_(health) {}

  // unsupported: no such service or method.
  Task<Status> handle(Rpc& rpc);

 private:
  InferenceService& inference_;
  HealthService& health_;
};

}  // namespace mayfly
