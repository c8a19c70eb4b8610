// The Open Inference Protocol's extensions that are no predictions: configuration, statistics, the
// model repository and shared memory, over HTTP. What this server does not have is refused with
// what to do instead. Loop thread.
#pragma once

#include <string>

#include "async/pool.h"
#include "async/task.h"
#include "gateway/route.h"
#include "net/exchange.h"
#include "serving/body_budget.h"
#include "serving/catalog.h"
#include "serving/client_memory.h"
#include "serving/model_repository.h"
#include "serving/statistics.h"

namespace mayfly {

class ProtocolApi {
 public:
  struct Parts {  // all outlive me
    Pool& parse_pool;
    BodyBudget& bodies;
    Catalog& catalog;
    Dispatcher& dispatcher;
    const Statistics& statistics;
    ModelRepository& repository;
    ClientMemory& shared;
    Bytes max_body;  // of a load with files
  };

  explicit ProtocolApi(Parts parts) : parts_(parts) {}

  // ServerMetadata, the endpoints from ModelConfig to Tracing, those of the repository and of
  // shared memory.
  Task<Result<Response>> call(Exchange& exchange, const Route& route);

 private:
  Task<Result<Response>> config(const Route& route);
  Result<Response> statistics(const Route& route) const;
  Task<Result<Response>> index(Exchange& exchange, const Route& route);
  Task<Result<Response>> load(Exchange& exchange, const Route& route);
  Result<Response> unload(const Route& route) const;
  Result<Response> list_memory(const Route& route) const;
  Task<Result<Response>> add_memory(Exchange& exchange, const Route& route);
  Result<Response> remove_memory(const Route& route);

  Parts parts_;
};

}  // namespace mayfly
