// The gRPC front door: from a call's method to the service that answers it. Loop thread.
#pragma once

#include "async/task.h"
#include "gateway/access.h"
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
  // `authorization` holds none that is valid. Health needs none. missing_scope: no function could
  // be meant that the caller may do this with. Actions stand in the audit log before they are
  // answered.
  Task<Status> handle(Rpc& rpc);

 private:
  // `rule` of a method of the inference service that there is.
  Status admit_caller(Rpc& rpc, const RpcRule* rule);
  Task<void> note(const Rpc& rpc, std::string_view action, const Status& outcome);
  Task<Status> serve(Rpc& rpc);

  InferenceService& inference_;
  HealthService& health_;
  Callers& callers_;
};

}  // namespace mayfly
