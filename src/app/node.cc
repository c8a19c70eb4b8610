#include "app/node.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <thread>

#include "app/listen.h"
#include "app/memory_watch.h"
#include "app/notify.h"
#include "app/signals.h"
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
#include "gateway/gateway.h"
#include "meter/ledger.h"
#include "net/http_server.h"
#include "publish/publisher.h"
#include "registry/registry.h"
#include "sandbox/cgroup.h"
#include "sandbox/doctor.h"
#include "sandbox/process_spawner.h"
#include "store/data_dir.h"
#include "store/local_blob_store.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kMaintenance = 10min;

Bytes machine_memory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page = ::sysconf(_SC_PAGESIZE);
  return Bytes{static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page)};
}

Bytes memory_budget(const Config& config) {
  return config.memory.count > 0 ? config.memory : Bytes{machine_memory().count / 4 * 3};
}

Bytes body_memory(const Config& config) {
  return config.body_memory.count > 0 ? config.body_memory : Bytes{machine_memory().count / 4};
}

PredictionLimits prediction_limits(const Config& config) {
  return {.max_body = config.max_body,
          .max_reply = config.max_reply,
          .body_memory = body_memory(config)};
}

std::uint32_t cores(const Config& config) {
  return config.cpus > 0 ? config.cpus : std::max(1U, std::thread::hardware_concurrency());
}

// bin/mayfly and bin/mayfly-runner lie side by side, in the build folder as in an installation.
Result<Path> runner_path() {
  std::error_code error;
  const Path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return std::unexpected(errno_error("/proc/self/exe", error.value()));
  Path runner = self.parent_path() / "mayfly-runner";
  if (!std::filesystem::exists(runner)) {
    return fail(Code::NotFound,
                fmt::format("{} is missing: it belongs beside mayfly", runner.native()));
  }
  return runner;
}

// A connection and three descriptors an instance: the default of 1024 would be the first limit to
// be hit.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

std::string isolation_of(const std::vector<LayerHealth>& layers) {
  std::vector<std::string_view> missing;
  for (const LayerHealth& layer : layers) {
    if (layer.state == LayerState::Missing) missing.push_back(to_string(layer.layer));
  }
  if (missing.empty()) return "full";
  LOG(warn, "layers of isolation are missing; `mayfly doctor` says why and what helps",
      {"missing", fmt::format("{}", fmt::join(missing, ", "))});
  return fmt::format("without {}", fmt::join(missing, ", "));
}

Result<Prices> prices_of(const Config& config) {
  Prices prices;
  const std::map<std::string, std::uint64_t Prices::*> known = {
      {"gib_second", &Prices::gib_second},
      {"cpu_second", &Prices::cpu_second},
      {"million_requests", &Prices::million_requests}};
  for (const auto& [key, value] : config.prices) {
    const auto found = known.find(key);
    if (found == known.end())
      return refuse(reason::kInvalidSetting, fmt::format("prices.{}: no such price", key));
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size()) {
      return refuse(reason::kInvalidSetting,
                    fmt::format("prices.{}: write a whole number of billionths", key));
    }
    prices.*found->second = number;
  }
  return prices;
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

// What serving stands on: outlives it.
struct Foundation {
  const Config& config;
  const ListenAddress& listen;
  const Prices& prices;
  SystemClock& clock;
  SystemRng& rng;
  Loop& loop;
  Pool& pool;
  const bool& stopping;
  CancelSource& stop;
  DataDir& data;
  LocalBlobStore& blobs;
  Registry& registry;
  Pins& pins;
  Ledger& ledger;
  const CgroupSupport& cgroups;
  std::string isolation;
  FunctionLogs& logs;
  ProcessSpawner& spawner;
};

Task<void> close(Gate& gate) { co_await gate.close(); }

// Finishes what was accepted, within `timeout`, gives up what is compiled again for it, and then
// ends every instance. Work of a pool that has begun is waited for: a backup to its end.
struct Draining {
  HttpServer& server;
  Dispatcher& dispatcher;
  Shadows& shadows;
  Rollouts& rollouts;
  CancelSource& cut_short;
  Gate& background;
};
void drain(Loop& loop, const Draining& parts, Duration timeout) {
  LOG(info, "stopping", {"drain_timeout", to_string(timeout)});
  notify_supervisor("STOPPING=1");
  loop.run(parts.server.close(timeout));
  parts.cut_short.cancel();
  loop.run(parts.shadows.close());
  loop.run(parts.rollouts.close());
  loop.run(parts.dispatcher.drain(5s));
  loop.run(close(parts.background));
}

// What goes on beside requests, until the node stops.
void start_background(const Foundation& base, Catalog& catalog, Dispatcher& dispatcher,
                      Gate& background) {
  const LedgerRetention retention{.max_age = base.config.ledger_keep,
                                  .max_bytes = base.config.ledger_max};
  base.loop.spawn(serve_kept(catalog, dispatcher, background));
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

DispatchOptions dispatch_options(const Config& config) {
  return {.cores = cores(config), .memory = memory_budget(config)};
}

HttpServerOptions server_options(const Config& config) {
  return {.max_header_bytes = config.max_header.count, .max_connections = config.max_connections};
}

// Rollouts under way go on, and learn what shadows meet.
Status resume(Rollouts& rollouts, Shadows& shadows) {
  shadows.on_result([&](const Serving& shadow, const Outcome& outcome, const Difference* apart) {
    rollouts.observe_shadow(shadow, outcome, apart);
  });
  return rollouts.load();
}

Status announce(const Foundation& base, const std::string& url) {
  TRY(write_file_durably(base.data.run() / "url", url + "\n"));
  LOG(info, "serving", {"url", url}, {"data", base.data.root().native()}, {"version", kVersion},
      {"isolation", base.isolation});
  notify_supervisor("READY=1");
  return {};
}

Status serve(const Foundation& base) {
  Loop& loop = base.loop;
  const Config& config = base.config;
  Pool parse_pool(loop, "parse", 2);
  Pool read_pool(loop, "read", 2);
  CancelSource cut_short;
  const CompileTarget target = TRY(this_machine(base.spawner.runtime_version()));
  Publisher publisher(loop, base.pool, base.spawner,
                      {.compiled = base.data.compiled(), .tmp = base.data.tmp()},
                      target);                                          // models in, artifacts out
  Dispatcher dispatcher(loop, base.spawner, dispatch_options(config));  // who runs what
  Catalog catalog(base.registry, base.blobs, publisher, read_pool, cut_short.token());
  follow(base.registry, loop, catalog);

  Metrics metrics(base.clock);
  LedgerWriter ledger_writer(loop, base.ledger);
  InvocationIds ids(base.clock, base.rng);
  Shadows shadows({loop, catalog, dispatcher, ledger_writer, ids});
  TrafficSwitch traffic({base.pool, base.registry, catalog, dispatcher, shadows});
  Rollouts rollouts({loop, base.pool, base.registry, catalog, traffic});
  TRY(resume(rollouts, shadows));
  Invoker invoker({.loop = loop,
                   .catalog = catalog,
                   .dispatcher = dispatcher,
                   .shadows = shadows,
                   .rollouts = rollouts,
                   .ledger = ledger_writer,
                   .metrics = metrics,
                   .ids = ids});
  Predictions predictions({parse_pool, invoker}, prediction_limits(config));
  const auto ready = [&] {
    ledger_writer.probe();
    return !base.stopping && base.spawner.ready() && ledger_writer.healthy();
  };
  BlobApi blob_api(base.blobs, base.pins, base.pool, config.max_upload);
  HttpServer* listening = nullptr;
  ControlApi control(
      {.loop = loop,
       .pool = base.pool,
       .data = base.data,
       .blobs = base.blobs,
       .pins = base.pins,
       .registry = base.registry,
       .catalog = catalog,
       .dispatcher = dispatcher,
       .shadows = shadows,
       .traffic = traffic,
       .rollouts = rollouts,
       .publisher = publisher,
       .ledger = base.ledger,
       .metrics = metrics,
       .logs = base.logs,
       .cgroups = base.cgroups,
       .prices = base.prices,
       .isolation = base.isolation,
       .ready = ready,
       .connections = [&] { return listening == nullptr ? 0 : listening->connections(); }});
  Gateway gateway({.predictions = predictions,
                   .control = control,
                   .blobs = blob_api,
                   .catalog = catalog,
                   .metrics = metrics,
                   .ready = ready},
                  {.hosts = config.hosts, .cors_origins = config.cors_origins});  // who may ask
  HttpServer server(loop, server_options(config),
                    [&](Exchange& exchange) { return gateway.handle(exchange); });
  listening = &server;
  const std::string url = TRY(listen_on(server, base.listen));
  const MemoryWatch memory_watch(loop, dispatcher, [] { return read_file("/proc/meminfo"); });
  TRY(announce(base, url));
  Gate background(loop);
  start_background(base, catalog, dispatcher, background);

  loop.run();

  drain(loop, {server, dispatcher, shadows, rollouts, cut_short, background}, config.drain_timeout);
  return {};
}

}  // namespace

Status run_node(const Config& config) {
  configure_log(config.log_level, config.log_format);
  raise_descriptor_limit();
  const ListenAddress listen = TRY(parse_listen(config.listen));
  const Prices prices = TRY(prices_of(config));
  const Path runner = TRY(runner_path());

  SystemClock clock;
  SystemRng rng;
  Loop loop(clock);
  bool stopping = false;
  CancelSource stop;
  const auto signals = TRY(StopSignals::create(loop, [&] {
    stopping = true;
    stop.cancel();
    loop.stop();
  }));

  DataDir data = TRY(DataDir::open(config.data));                          // what survives
  const auto blobs = TRY(LocalBlobStore::open(data.blobs(), data.tmp()));  // bytes
  const auto registry = TRY(Registry::open(data.registry_db(), clock));    // functions and versions
  Pins pins(clock);
  const auto ledger =
      TRY(Ledger::open(data.ledger(), clock, {.sync = config.ledger_sync}));  // what happened
  Pool pool(loop, "control", 2);

  RealCgroupFs cgroup_fs;
  const CgroupSupport support = TRY(detect_cgroups(cgroup_fs));
  const std::vector<LayerHealth> layers = examine_layers(support);
  if (config.isolation_level == IsolationLevel::Strict) {
    auto every = require_every_layer(layers);
    if (!every) return refuse(reason::kWeakIsolation, std::move(every).error().message);
  }
  NodeCgroups cgroups = TRY(NodeCgroups::open(cgroup_fs, support, node_id(data.root())));  // limits
  FunctionLogs logs(loop);
  const auto spawner = TRY(
      ProcessSpawner::create(loop, {.runner = runner,
                                    .cgroups = &cgroups,
                                    .max_reply = config.max_reply,
                                    .cpus = config.cpus,
                                    .on_log = [&](std::string_view label, std::string_view line) {
                                      logs.add(label, line);
                                    }}));  // jails
  TRY(loop.run(runner_ready(loop, *spawner)));

  return serve({.config = config,
                .listen = listen,
                .prices = prices,
                .clock = clock,
                .rng = rng,
                .loop = loop,
                .pool = pool,
                .stopping = stopping,
                .stop = stop,
                .data = data,
                .blobs = *blobs,
                .registry = *registry,
                .pins = pins,
                .ledger = *ledger,
                .cgroups = support,
                .isolation = isolation_of(layers),
                .logs = logs,
                .spawner = *spawner});
}

}  // namespace mayfly
