// grpc.health.v1.Health: what load balancers and orchestrators probe. A service is "" or the
// inference service's name for the node, or the name of a model. Loop thread.
#pragma once

#include <functional>
#include <string>

#include "async/loop.h"
#include "async/task.h"
#include "gateway/callers.h"
#include "grpc/rpc.h"
#include "serving/catalog.h"

namespace mayfly {

class HealthService {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Catalog& catalog;
    Callers& callers;
    std::function<bool()> ready;
  };
  explicit HealthService(Parts parts) : parts_(std::move(parts)) {}

  // `method` without the service: "Check".
  Task<Status> call(Rpc& rpc, std::string_view method);

 private:
  enum class Health : std::uint8_t { Serving, NotServing, Unknown };
  Status identify_again(Rpc& rpc, const std::string& service);
  Health health_of(const Principal& caller, const std::string& service) const;
  Task<Status> check(Rpc& rpc, std::string service);
  // Says what is so, and again when it has changed, until the client goes, its key ends or the node
  // drains. About the node it tells whoever asks.
  Task<Status> watch(Rpc& rpc, std::string service);

  Parts parts_;
};

}  // namespace mayfly
