// Where versions come from and what they are worth, over HTTP: lineages, model cards, and the
// registration of what a training found without reaching its goal. docs/registry.md. Loop thread.
#pragma once

#include <string>
#include <string_view>

#include "async/pool.h"
#include "async/task.h"
#include "core/json_reader.h"
#include "gateway/route.h"
#include "identity/signing_key_store.h"
#include "jobs/job_engine.h"
#include "jobs/trained_model.h"
#include "lineage/lineage.h"
#include "net/exchange.h"
#include "registry/registry.h"
#include "serving/catalog.h"
#include "serving/rollouts.h"

namespace mayfly {

class LineageApi {
 public:
  struct Parts {  // all outlive me
    Pool& pool;
    Catalog& catalog;
    Registry& registry;
    Rollouts& rollouts;
    SigningKeyStore& keys;
    JobEngine& engine;
    Lineage& lineage;
    RegisterTrained add;
  };
  explicit LineageApi(Parts parts) : parts_(std::move(parts)) {}

  Task<Result<Response>> call(Exchange& exchange, const Route& route);

 private:
  Task<Result<Response>> of_version(const Route& route);
  Task<Result<Response>> of_invocation(const Route& route);
  Task<Result<Response>> of_snapshot(const Route& route);
  Task<Result<Response>> card(const Exchange& exchange, const Route& route);
  Task<Result<Json>> make_card(const Route& route);
  Task<Result<Response>> add(Exchange& exchange, const Route& route);
  Task<Result<TrainedModel>> find_trained(const Route& route);

  Parts parts_;
};

}  // namespace mayfly
