#include "app/node.h"

#include <memory>
#include <utility>

#include "app/blob_stores.h"
#include "app/data_plane.h"
#include "app/holdings.h"
#include "app/listen.h"
#include "app/memory_watch.h"
#include "app/notify.h"
#include "app/package_index.h"
#include "app/provision.h"
#include "app/signals.h"
#include "app/tls_files.h"
#include "app/trusted.h"
#include "async/cancel.h"
#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/sleep.h"
#include "base/log.h"
#include "core/reason.h"
#include "core/units.h"
#include "core/version.h"
#include "dispatch/dispatcher.h"
#include "gateway/event_service.h"
#include "gateway/gateway.h"
#include "gateway/job_service.h"
#include "grpc/grpc_gateway.h"
#include "grpc/rpc_server.h"
#include "grpc/rpc_tls.h"
#include "meter/ledger.h"
#include "net/http_server.h"
#include "publish/publisher.h"
#include "registry/registry.h"
#include "sandbox/cgroup.h"
#include "sandbox/doctor.h"
#include "sandbox/process_spawner.h"
#include "store/data_dir.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kMaintenance = 10min;

void listen_for_owner(HttpServer& server, const DataDir& data) {
  if (const Status listening = server.listen_unix(data.admin_socket()); !listening) {
    LOG(warn, "no admin socket: keys can be made over HTTP only, with a key",
        {"error", listening.error().message});
  }
}

// What must run although nobody asked: functions with min_instances or keep_warm.
Task<void> serve_kept(Catalog& catalog, Dispatcher& dispatcher, Gate& background) {
  const auto hold = background.hold();
  const Registry::Snapshot table = catalog.table();
  for (const auto& function : table->all()) {
    if (background.closed()) co_return;
    if (function->settings->min_instances == 0 && !function->settings->keep_warm) continue;
    const auto serving = co_await catalog.find(function->name.str(), "");
    if (!serving) continue;
    dispatcher.serve((*serving)->runtime, (*serving)->settings, (*serving)->sequence);
  }
}

Task<void> maintain(Loop& loop, Pool& pool, Ledger& ledger, LedgerRetention retention,
                    Gate& background, CancelToken stop) {
  const auto hold = background.hold();
  while (co_await sleep_until(loop, loop.now() + kMaintenance, stop)) {
    const Status done = co_await pool.run([&] { return ledger.maintain(retention); });
    if (!done) LOG(error, "ledger maintenance failed", {"error", done.error().message});
  }
}

// Names the node's control groups: the same for the same data folder, so that a restart sweeps what
// a killed server left, and another for every other.
std::string node_id(const Path& data) { return sha256_hex(data.native()).substr(0, 12); }

Task<Status> runner_ready(Loop& loop, ProcessSpawner& spawner) {
  Future<void> ready(loop);
  spawner.on_ready([promise = std::make_shared<Promise<void>>(ready.promise())](Status status) {
    promise->set(std::move(status));
  });
  co_return co_await ready;
}

// Who asks, by key, token or certificate, and how much a project may.
struct Admission {
  Admission(const Foundation& base, QuotaGate& quotas)
      : callers({base.loop, base.pool, base.keys, base.audit, open_issuers(base),
                 base.trusted.certificates ? &*base.trusted.certificates : nullptr}),
        api({base.pool, base.clock, base.keys, base.audit, base.projects, quotas, callers}) {}

  void start() {
    if (issuers) issuers->start();
  }
  Task<void> close() {
    co_await callers.close();
    if (issuers) co_await issuers->close();
  }

  std::optional<TokenIssuers> issuers;
  Callers callers;
  IdentityApi api;

 private:
  // Null where no issuer is trusted.
  TokenIssuers* open_issuers(const Foundation& base) {
    if (base.trusted.issuers.empty()) return nullptr;
    return &issuers.emplace(base.loop, base.trusted.issuers, fetch_keys);
  }
};

Task<void> close(Gate& gate) { co_await gate.close(); }

Task<void> close_grpc(RpcServer& server, Duration timeout, Gate::Hold) {
  co_await server.close(timeout);
}

Task<void> close_http(HttpServer& server, Duration timeout, Gate::Hold) {
  co_await server.close(timeout);
}

// What goes on beside requests, until the node stops.
void start_background(const Foundation& base, DataPlane& plane, Gate& background) {
  const LedgerRetention retention{.max_age = base.config.ledger_keep,
                                  .max_bytes = base.config.ledger_max};
  base.loop.spawn(serve_kept(plane.catalog, plane.dispatcher, background));
  base.loop.spawn(plane.scrub.keep_on(background.hold(), base.stop.token()));
  base.loop.spawn(
      maintain(base.loop, base.pool, base.ledger, retention, background, base.stop.token()));
}

// What changes in the registry is known to requests from the next turn of the loop on.
void follow(Registry& registry, Loop& loop, Catalog& catalog) {
  registry.on_publish([&](Registry::Snapshot table) {
    loop.post(
        [&catalog, table = std::move(table)]() mutable { catalog.publish(std::move(table)); });
  });
}

// Rollouts under way go on, and learn what shadows meet.
Status resume(Rollouts& rollouts, Shadows& shadows) {
  shadows.on_result([&](const Serving& shadow, const Outcome& outcome, const Difference* apart) {
    rollouts.observe_shadow(shadow, outcome, apart);
  });
  return rollouts.load();
}

// Both are null where TLS is not configured.
struct Tls {
  std::shared_ptr<RpcTls> grpc;
  std::unique_ptr<TlsReload> files;
};

Result<Tls> speak_tls(const Foundation& base, HttpServer& server, Gate& background) {
  Tls tls;
  if (!base.tls) return tls;
  tls.grpc = std::make_shared<RpcTls>(
      base.tls->client_ca.empty() ? RpcTls::Clients::Anybody : RpcTls::Clients::WithCertificate);
  tls.files = TRY(TlsReload::create(base.loop, base.pool, background, *base.tls,
                                    [&server, grpc = tls.grpc](TlsContext context) {
                                      grpc->use(context.pem());
                                      server.set_tls(std::move(context));
                                    }));
  base.signals.on_reload([files = tls.files.get()] { files->reload(); });
  return tls;
}

Status announce(const Foundation& base, const std::string& url, const std::string& grpc) {
  TRY(write_file_durably(base.data.run() / "grpc", grpc + "\n"));
  TRY(write_file_durably(base.data.run() / "url", url + "\n"));
  LOG(info, "serving", {"url", url}, {"grpc", grpc}, {"data", base.data.root().native()},
      {"version", kVersion}, {"isolation", base.isolation});
  notify_supervisor("READY=1");
  return {};
}

// The gRPC front door, and where it stands.
struct GrpcDoor {
  GrpcDoor(const Foundation& base, DataPlane& plane, Callers& callers,
           const std::function<bool()>& ready)
      : inference({.loop = base.loop,
                   .parse_pool = plane.parse_pool,
                   .invoker = plane.invoker,
                   .bodies = plane.bodies,
                   .catalog = plane.catalog,
                   .dispatcher = plane.dispatcher,
                   .repository = plane.repository,
                   .shared = plane.shared,
                   .statistics = plane.statistics,
                   .callers = callers,
                   .ready = ready},
                  {.max_body = base.config.max_body, .max_reply = base.config.max_reply}),
        health({base.loop, plane.catalog, callers, ready}),
        gateway(inference, health, callers) {}

  // Where it listens; "off".
  Result<std::string> open(const Foundation& base, std::shared_ptr<RpcTls> tls) {
    if (!base.grpc_listen) return "off";
    ListenAddress where = *base.grpc_listen;
    if (!where.socket.empty()) tls = nullptr;  // a socket file stays plain
    auto listening = RpcServer::listen(base.loop, {host_and_port(where), std::move(tls)},
                                       {.max_message = base.config.max_body,
                                        .max_reply = base.config.max_reply,
                                        .memory = body_memory(base.config),
                                        .max_calls = base.config.max_connections},
                                       [this](Rpc& rpc) { return gateway.handle(rpc); });
    if (!listening) {
      return std::unexpected(std::move(listening).error().in(
          "server.grpc_listen (choose another address with --grpc-listen or MAYFLY_GRPC_LISTEN, or "
          "off)"));
    }
    server = *std::move(listening);
    where.port = static_cast<std::uint16_t>(server->port());
    return host_and_port(where);
  }

  InferenceService inference;
  HealthService health;
  GrpcGateway gateway;
  std::unique_ptr<RpcServer> server;
};

// Finishes what was accepted, within `timeout`, gives up what is compiled again for it, and then
// ends every instance. Work of a pool that has begun is waited for: a backup to its end.
struct Draining {
  HttpServer& server;
  HttpServer& admin;
  Admission& who;
  RpcServer* grpc;  // null: none
  EventService& events;
  JobEngine& jobs;
  DataPlane& plane;
  SpanExporter* spans;  // null: none
  S3Client* objects;    // null: none
  Gate& background;
};
// All at the same time: none takes of the other's.
Task<void> close_servers(Loop& loop, const Draining& parts, Duration timeout) {
  Gate closing(loop);
  if (parts.grpc != nullptr) loop.spawn(close_grpc(*parts.grpc, timeout, *closing.hold()));
  loop.spawn(close_http(parts.admin, timeout, *closing.hold()));
  co_await parts.server.close(timeout);
  co_await closing.close();
}

void drain(Loop& loop, const Draining& parts, Duration timeout) {
  LOG(info, "stopping", {"drain_timeout", to_string(timeout)});
  notify_supervisor("STOPPING=1");
  parts.events.stop();
  parts.jobs.stop();
  loop.run(close_servers(loop, parts, timeout));
  if (parts.objects != nullptr) parts.objects->stop();
  loop.run(parts.jobs.close());
  parts.plane.cut_short.cancel();
  loop.run(parts.events.close());
  loop.run(parts.plane.shadows.close());
  loop.run(parts.plane.rollouts.close());
  loop.run(parts.plane.dispatcher.drain(5s));
  loop.run(parts.plane.callees.close());
  loop.run(close(parts.background));
  loop.run(parts.plane.quotas.close());
  loop.run(parts.who.close());
  if (parts.spans != nullptr) loop.run(parts.spans->close());
}

// Null: nothing is recorded.
Result<std::unique_ptr<SpanExporter>> record_traces(const Config& config, Loop& loop,
                                                    const Path& root) {
  if (config.trace_endpoint.empty()) return nullptr;
  auto send = send_to_collector(config.trace_endpoint);
  if (!send) return std::unexpected(std::move(send).error().in("trace.endpoint"));
  const OtlpResource resource{.version = std::string(kVersion), .instance = node_id(root)};
  return std::make_unique<SpanExporter>(loop, resource, *std::move(send));
}

// What trainings make of functions, and where versions come from.
struct Origins {
  Origins(const Foundation& base, DataPlane& plane, JobService& jobs)
      : lineage({.registry = base.registry,
                 .blobs = base.blobs,
                 .jobs = jobs.engine().store(),
                 .datasets = jobs.dataset_store(),
                 .ledger = base.data.ledger()}),
        registrar(registrar_parts(base, plane, jobs)),
        held_out(held_out_parts(base, plane, jobs)),
        rehearsal({.loop = base.loop,
                   .catalog = plane.catalog,
                   .shadows = plane.shadows,
                   .find_rows = [this](HeldOutAsk ask) { return held_out.find(std::move(ask)); }}),
        api({.pool = base.pool,
             .catalog = plane.catalog,
             .registry = base.registry,
             .rollouts = plane.rollouts,
             .keys = *base.vault.signing,
             .engine = jobs.engine(),
             .lineage = lineage,
             .add = [this](TrainedModel trained) { return add(std::move(trained)); }}) {
    plane.rollouts.rehearse_with(
        [this](HeldOutAsk ask, Rehearsal::Decides decides, CancelToken stop) {
          return rehearsal.run(std::move(ask), std::move(decides), stop);
        });
  }

  Task<Result<Registered>> add(TrainedModel trained) { return registrar.add(std::move(trained)); }

  Lineage lineage;
  Registrar registrar;
  HeldOutRows held_out;
  Rehearsal rehearsal;  // of rollouts whose functions nobody asks
  LineageApi api;
};

Result<JobStores> open_jobs(const Foundation& base, ScheduleStore& schedules) {
  auto blobs =
      TRY(open_blobs(base.config, base.objects,
                     {.root = base.data.jobs(), .tmp = base.data.tmp(), .name = "jobs"}, base.rng));
  return JobStores::open(base.data, std::move(blobs), base.clock, schedules);
}

// What is known in secret, and who vouches for what.
struct VaultDoors {
  VaultDoors(const Foundation& base, DataPlane& plane)
      : secrets({base.pool, *base.vault.secrets, base.registry, plane.dispatcher}),
        webhooks({base.pool, *base.vault.secrets}),
        signing({base.pool, *base.vault.signing, base.registry, plane.catalog, base.blobs}) {}

  SecretApi secrets;
  WebhookApi webhooks;
  SigningApi signing;
};

// All outlive them.
Result<std::unique_ptr<Signals>> stop_on_signals(Loop& loop, bool& stopping, CancelSource& stop) {
  return Signals::create(loop, [&] {
    stopping = true;
    stop.cancel();
    loop.stop();
  });
}

Status serve(const Foundation& base) {
  Loop& loop = base.loop;
  const Config& config = base.config;
  const CompileTarget target = TRY(this_machine(base.spawner.runtime_version()));
  DataPlane plane(base, target);
  follow(base.registry, loop, plane.catalog);
  TRY(resume(plane.rollouts, plane.shadows));
  const auto ready = [&] {
    plane.ledger.probe();
    return !base.stopping && base.spawner.ready() && plane.ledger.healthy();
  };

  Predictions predictions({plane.parse_pool, plane.invoker, plane.bodies, plane.shared},
                          prediction_limits(config));
  BlobApi blob_api({base.blobs, base.owners, base.pins, base.pool, plane.quotas},
                   config.max_upload);
  Admission who(base, plane.quotas);
  plane.quotas.publish(*base.projects.table());
  loop.run(plane.quotas.refresh());
  EventStores event_stores = base.wrap(TRY(EventStores::open(base.data)));
  std::unique_ptr<Origins> origins;  // they need what jobs keep, and jobs need them once they run
  JobService jobs(TRY(open_jobs(base, *event_stores.schedules)),
                  job_parts(base, plane, predictions,
                            [&](TrainedModel trained) { return origins->add(std::move(trained)); }),
                  job_options(config));
  TRY(jobs.engine().recover());
  EventService events(std::move(event_stores), event_parts(base, plane, predictions, jobs),
                      {.concurrency = config.event_concurrency}, config.max_body);
  TRY(events.recover(base.ledger));
  origins = std::make_unique<Origins>(base, plane, jobs);
  HttpServer* listening = nullptr;
  ControlApi control(control_parts(base, plane, jobs, origins->lineage, ready, [&] {
    return listening == nullptr ? std::size_t{0} : listening->connections();
  }));
  ProtocolApi protocol(protocol_parts(plane, config));
  VaultDoors vault(base, plane);
  Gateway gateway({.predictions = predictions,
                   .control = control,
                   .protocol = protocol,
                   .blobs = blob_api,
                   .events = events.api(),
                   .schedules = events.schedules(),
                   .jobs = jobs.api(),
                   .datasets = jobs.datasets(),
                   .trainings = jobs.trainings(),
                   .catalog = plane.catalog,
                   .metrics = plane.metrics,
                   .callers = who.callers,
                   .identity = who.api,
                   .secrets = vault.secrets,
                   .webhooks = vault.webhooks,
                   .signing = vault.signing,
                   .lineage = origins->api,
                   .ready = ready},
                  {.hosts = config.hosts, .cors_origins = config.cors_origins});  // who may ask
  HttpServer server(loop, server_options(config, base.connections),
                    [&](Exchange& exchange) { return gateway.handle(exchange); });
  listening = &server;
  HttpServer admin(loop, admin_options(), [&](Exchange& exchange) {
    return gateway.handle(exchange, Gateway::Door::AdminSocket);
  });  // for the owner of the data folder
  listen_for_owner(admin, base.data);
  Gate background(loop);
  const Tls tls = TRY(speak_tls(base, server, background));
  const std::string url =
      TRY(listen_on(server, base.listen, tls.files ? ListenScheme::Https : ListenScheme::Http));
  GrpcDoor grpc(base, plane, who.callers, ready);
  const std::string grpc_address = TRY(grpc.open(base, tls.grpc));
  const MemoryWatch memory_watch(loop, plane.dispatcher, [] { return read_file("/proc/meminfo"); });
  TRY(announce(base, url, grpc_address));
  who.start();
  start_background(base, plane, background);
  events.start();
  jobs.engine().start();
  loop.run();
  drain(loop,
        {server, admin, who, grpc.server.get(), events, jobs.engine(), plane, base.spans,
         base.objects, background},
        config.drain_timeout);
  return {};
}

}  // namespace

Status run_node(const Config& config, const WrapEventStores& wrap) {
  configure_log(config.log_level, config.log_format);
  const std::uint32_t connections = fit_descriptors(config.max_connections);
  const ListenAddress listen = TRY(parse_listen(config.listen));
  const std::optional<ListenAddress> grpc_listen = TRY(parse_grpc_listen(config.grpc_listen));
  const auto tls = TRY(tls_files_of(config));
  const Prices prices = TRY(prices_of(config));
  ProcessSpawnerOptions jails = TRY(spawner_options(config));
  const PackageIndex packages = TRY(package_index(config));
  const auto egress = TRY(guarded_client(config));
  SystemClock clock;
  SystemRng rng;
  Loop loop(clock);
  bool stopping = false;
  CancelSource stop;
  const auto signals = TRY(stop_on_signals(loop, stopping, stop));

  DataDir data = TRY(DataDir::open(config.data));  // what survives
  Pins pins(clock);
  const auto objects = TRY(object_store(config, rng));
  const auto blobs = TRY(
      open_blobs(config, objects.get(), {data.blobs(), data.tmp(), "blobs", &pins}, rng));  // bytes
  const auto keys =
      TRY(KeyStore::open(data.identity_db(), data.identity_secret(), clock, rng));  // who may ask
  const auto audit = TRY(AuditLog::open(data.identity_db()));                       // who did what
  const auto projects = TRY(ProjectStore::open(data.identity_db()));                // and how much
  const Vault vault = TRY(Vault::open(data, clock, rng));       // what is known in secret
  const TrustedIdentities trusted = TRY(read_trusted(config));  // whom besides keys
  TRY(check_doors(listen, grpc_listen, keys->table()->closed() || trusted.any(), tls.has_value()));
  const auto registry = TRY(Registry::open(data.registry_db(), clock));  // functions and versions
  const auto found = [&] { return blobs_by_project(*registry, *blobs); };
  const auto owners = TRY(BlobOwners::open(data.identity_db(), clock, found));  // whose bytes
  const auto ledger = TRY(Ledger::open(data.ledger(), clock, {.sync = config.ledger_sync}));
  Pool pool(loop, "control", 2);
  RealCgroupFs cgroup_fs;
  const CgroupSupport support = TRY(detect_cgroups(cgroup_fs));
  const std::vector<LayerHealth> layers = examine_layers(support);
  TRY(check_isolation(config, layers));
  NodeCgroups cgroups = TRY(NodeCgroups::open(cgroup_fs, support, node_id(data.root())));  // limits
  FunctionLogs logs(loop);
  const auto spans = TRY(record_traces(config, loop, data.root()));
  jails.cgroups = &cgroups;
  jails.on_log = [&](std::string_view label, std::string_view line) { logs.add(label, line); };
  const auto spawner = TRY(ProcessSpawner::create(loop, std::move(jails)));
  TRY(loop.run(runner_ready(loop, *spawner)));

  return serve({.config = config,
                .listen = listen,
                .grpc_listen = grpc_listen,
                .tls = tls,
                .connections = connections,
                .prices = prices,
                .clock = clock,
                .rng = rng,
                .loop = loop,
                .pool = pool,
                .stopping = stopping,
                .stop = stop,
                .signals = *signals,
                .data = data,
                .blobs = *blobs,
                .registry = *registry,
                .pins = pins,
                .ledger = *ledger,
                .cgroups = support,
                .isolation = isolation_of(layers),
                .logs = logs,
                .spawner = *spawner,
                .keys = *keys,
                .audit = *audit,
                .owners = *owners,
                .projects = *projects,
                .spans = spans.get(),
                .packages = packages,
                .vault = vault,
                .trusted = trusted,
                .wrap = wrap,
                .objects = objects.get(),
                .egress = *egress});
}

}  // namespace mayfly
