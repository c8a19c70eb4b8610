// What a node is made of between its stores and its doors, and what each door is given of it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "app/config.h"
#include "app/listen.h"
#include "app/node.h"
#include "app/package_index.h"
#include "app/scrubbing.h"
#include "app/signals.h"
#include "app/trusted.h"
#include "app/vault.h"
#include "async/cancel.h"
#include "async/loop.h"
#include "async/pool.h"
#include "gateway/control_api.h"
#include "gateway/event_service.h"
#include "gateway/job_service.h"
#include "gateway/predictions.h"
#include "gateway/protocol_api.h"
#include "identity/audit_log.h"
#include "identity/blob_owners.h"
#include "identity/key_store.h"
#include "identity/project_store.h"
#include "lineage/held_out.h"
#include "lineage/lineage.h"
#include "lineage/registrar.h"
#include "net/guarded_client.h"
#include "net/http_server.h"
#include "publish/publisher.h"
#include "registry/registry.h"
#include "remote/s3_client.h"
#include "sandbox/process_spawner.h"
#include "serving/callees.h"
#include "serving/invoker.h"
#include "serving/model_repository.h"
#include "serving/rollouts.h"
#include "serving/shadows.h"
#include "serving/shipped_functions.h"
#include "store/blob_store.h"
#include "store/data_dir.h"

namespace mayfly {

// What serving stands on: outlives it.
struct Foundation {
  const Config& config;
  const ListenAddress& listen;
  const std::optional<ListenAddress>& grpc_listen;
  const std::optional<TlsServerFiles>& tls;
  std::uint32_t connections;  // as many as descriptors allow
  const Prices& prices;
  SystemClock& clock;
  SystemRng& rng;
  Loop& loop;
  Pool& pool;
  const bool& stopping;
  CancelSource& stop;
  Signals& signals;
  DataDir& data;
  BlobStore& blobs;
  Registry& registry;
  Pins& pins;
  Ledger& ledger;
  const CgroupSupport& cgroups;
  std::string isolation;
  FunctionLogs& logs;
  ProcessSpawner& spawner;
  KeyStore& keys;
  AuditLog& audit;
  BlobOwners& owners;
  ProjectStore& projects;
  SpanExporter* spans;  // null: nothing is recorded
  const PackageIndex& packages;
  const Vault& vault;
  const TrustedIdentities& trusted;
  const WrapEventStores& wrap;
  S3Client* objects;  // null: blobs are on the disk
  GuardedClient& egress;
};

// What predictions of every protocol go through. Members in the order of their making.
struct DataPlane {
  DataPlane(const Foundation& base, const CompileTarget& target);

  Pool parse_pool;
  Pool read_pool;
  CancelSource cut_short;
  Publisher publisher;    // models in, artifacts out
  Dispatcher dispatcher;  // who runs what
  QuotaGate quotas;       // how much a project may take
  Catalog catalog;        // what a name means
  Metrics metrics;
  Statistics statistics;
  LedgerWriter ledger;
  InvocationIds ids;
  Tracer tracer;
  Shadows shadows;
  TrafficSwitch traffic;
  Rollouts rollouts;
  ResponseCache cache;
  Invoker invoker;  // one prediction
  BodyBudget bodies;
  Callees callees;  // and what one calls
  ClientMemory shared;
  ModelRepository repository;
  ShippedFunctions shipped;
  DamageDesk damage;
  Scrub scrub;  // what was stored once, is looked at again
};

Registrar::Parts registrar_parts(const Foundation& base, DataPlane& plane, JobService& jobs);
HeldOutRows::Parts held_out_parts(const Foundation& base, DataPlane& plane, JobService& jobs);
ControlApi::Parts control_parts(const Foundation& base, DataPlane& plane, JobService& jobs,
                                const Lineage& lineage, std::function<bool()> ready,
                                std::function<std::size_t()> connections);
ProtocolApi::Parts protocol_parts(DataPlane& plane, const Config& config);
EventService::Parts event_parts(const Foundation& base, DataPlane& plane, Predictions& predictions,
                                JobService& jobs);
// `enroll`: what makes versions of what trainings find.
JobService::Parts job_parts(const Foundation& base, DataPlane& plane, Predictions& predictions,
                            RegisterTrained enroll);

}  // namespace mayfly
