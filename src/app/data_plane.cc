#include "app/data_plane.h"

#include <algorithm>
#include <utility>

#include "app/holdings.h"
#include "app/memory_watch.h"
#include "app/provision.h"

namespace mayfly {
namespace {

PythonSupplies supplies(const Foundation& base) {
  return {.index = base.packages,
          .read_secrets = [&secrets = *base.vault.secrets](std::string_view project,
                                                           const std::vector<std::string>& names) {
            return secrets.read(project, names);
          }};
}

HeldOutRows::RunScore run_score(const Foundation& base, JobService& jobs) {
  return [&jobs, stop = base.stop.token()](JobSubmission job, std::vector<JobFile> inputs) {
    return jobs.run_to_end(std::move(job), std::move(inputs), stop);
  };
}

}  // namespace

DataPlane::DataPlane(const Foundation& base, const CompileTarget& target)
    : parse_pool(base.loop, "parse", 2),
      read_pool(base.loop, "read", 2),
      publisher(base.loop, base.pool, base.spawner,
                {.compiled = base.data.compiled(),
                 .tmp = base.data.tmp(),
                 .environments = base.data.environments(),
                 .key = base.vault.node_key},
                target, supplies(base)),
      dispatcher(base.loop, base.spawner, dispatch_options(base.config)),
      quotas({base.loop, base.pool, [&] { return used_this_month(base.ledger, base.clock); }}),
      catalog({base.registry, base.blobs, publisher, read_pool, quotas}, cut_short.token(),
              base.config.environment_templates),
      metrics(base.clock),
      ledger(base.loop, base.ledger),
      ids(base.clock, base.rng),
      tracer(base.rng, base.config.trace_sample, base.spans),
      shadows({base.loop, catalog, dispatcher, ledger, ids}),
      traffic({base.pool, base.registry, catalog, dispatcher, shadows, *base.vault.signing}),
      rollouts({base.loop, base.pool, base.registry, catalog, traffic}),
      cache(base.config.cache),
      invoker({.loop = base.loop,
               .catalog = catalog,
               .dispatcher = dispatcher,
               .shadows = shadows,
               .rollouts = rollouts,
               .ledger = ledger,
               .metrics = metrics,
               .statistics = statistics,
               .ids = ids,
               .cache = cache,
               .quotas = quotas,
               .tracer = tracer}),
      bodies(body_memory(base.config)),
      callees({base.loop, parse_pool, dispatcher, invoker, bodies},
              {.max_body = base.config.max_body, .max_reply = base.config.max_reply}),
      shared(base.config.client_shm_uid),
      repository({.loop = base.loop,
                  .pool = base.pool,
                  .blobs = base.blobs,
                  .owners = base.owners,
                  .pins = base.pins,
                  .catalog = catalog,
                  .dispatcher = dispatcher,
                  .traffic = traffic,
                  .quotas = quotas,
                  .publisher = publisher,
                  .metrics = metrics}),
      shipped({.loop = base.loop,
               .pool = base.pool,
               .folder = library_folder() / "trainers",
               .blobs = base.blobs,
               .owners = base.owners,
               .pins = base.pins,
               .catalog = catalog,
               .publisher = publisher,
               .traffic = traffic}),
      damage({base.pool, base.registry, catalog, dispatcher}),
      scrub({.loop = base.loop,
             .blobs = base.blobs,
             .forms = publisher.forms(),
             .compiled = base.data.compiled(),
             .quarantine = base.data.quarantine()},
            {.every = base.config.scrub_interval, .rate = base.config.scrub_rate},
            [this](Damage found) { return damage.take(std::move(found)); }) {}

Registrar::Parts registrar_parts(const Foundation& base, DataPlane& plane, JobService& jobs) {
  return {.pool = base.pool,
          .clock = base.clock,
          .blobs = base.blobs,
          .owners = base.owners,
          .pins = base.pins,
          .registry = base.registry,
          .catalog = plane.catalog,
          .traffic = plane.traffic,
          .rollouts = plane.rollouts,
          .publisher = plane.publisher,
          .jobs = jobs.engine().store(),
          .job_blobs = jobs.blobs(),
          .datasets = jobs.dataset_store(),
          .score = run_score(base, jobs),
          .byte_limit = [&quotas = plane.quotas](
                            std::string_view project) { return quotas.stored_limit(project); },
          .stop = base.stop.token()};
}

HeldOutRows::Parts held_out_parts(const Foundation& base, DataPlane& plane, JobService& jobs) {
  return {.pool = base.pool,
          .clock = base.clock,
          .blobs = base.blobs,
          .pins = base.pins,
          .registry = base.registry,
          .jobs = jobs.engine().store(),
          .job_blobs = jobs.blobs(),
          .ids = plane.ids,
          .memory = std::min(gib(1), jobs.engine().options().memory),
          .score = run_score(base, jobs)};
}

ControlApi::Parts control_parts(const Foundation& base, DataPlane& plane, JobService& jobs,
                                const Lineage& lineage, std::function<bool()> ready,
                                std::function<std::size_t()> connections) {
  return {
      .loop = base.loop,
      .pool = base.pool,
      .data = base.data,
      .blobs = base.blobs,
      .owners = base.owners,
      .pins = base.pins,
      .registry = base.registry,
      .catalog = plane.catalog,
      .dispatcher = plane.dispatcher,
      .shadows = plane.shadows,
      .traffic = plane.traffic,
      .rollouts = plane.rollouts,
      .signing = *base.vault.signing,
      .scrub = plane.scrub,
      .cache = plane.cache,
      .publisher = plane.publisher,
      .ledger = base.ledger,
      .metrics = plane.metrics,
      .statistics = plane.statistics,
      .logs = base.logs,
      .cgroups = base.cgroups,
      .egress = base.egress.policy(),
      .prices = base.prices,
      .isolation = base.isolation,
      .ready = std::move(ready),
      .connections = std::move(connections),
      .training = [&lineage](const FunctionName& function,
                             VersionNumber version) { return lineage.summary(function, version); },
      .spans = base.spans,
      .objects = base.objects,
      .backup = {jobs.backup()}};
}

ProtocolApi::Parts protocol_parts(DataPlane& plane, const Config& config) {
  return {.parse_pool = plane.parse_pool,
          .bodies = plane.bodies,
          .catalog = plane.catalog,
          .dispatcher = plane.dispatcher,
          .statistics = plane.statistics,
          .repository = plane.repository,
          .shared = plane.shared,
          .max_body = config.max_body};
}

EventService::Parts event_parts(const Foundation& base, DataPlane& plane, Predictions& predictions,
                                JobService& jobs) {
  return {.loop = base.loop,
          .rng = base.rng,
          .ids = plane.ids,
          .ledger = plane.ledger,
          .dispatcher = plane.dispatcher,
          .catalog = plane.catalog,
          .predictions = predictions,
          .parse_pool = plane.parse_pool,
          .bodies = plane.bodies,
          .jobs = jobs,
          .secrets = *base.vault.secrets,
          .client = base.egress};
}

JobService::Parts job_parts(const Foundation& base, DataPlane& plane, Predictions& predictions,
                            RegisterTrained enroll) {
  const auto has_memory = [] {
    const auto meminfo = read_file("/proc/meminfo");
    return !meminfo || memory_shortage(*meminfo).count == 0;
  };
  return {.loop = base.loop,
          .rng = base.rng,
          .ids = plane.ids,
          .ledger = plane.ledger,
          .catalog = plane.catalog,
          .registry = base.registry,
          .shipped = plane.shipped,
          .predictions = predictions,
          .runner = base.spawner,
          .uploads = base.blobs,
          .owners = base.owners,
          .pins = base.pins,
          .data = base.data,
          .has_memory = has_memory,
          .byte_limit = [&quotas = plane.quotas](
                            std::string_view project) { return quotas.job_limit(project); },
          .data_limit = [&quotas = plane.quotas](
                            std::string_view project) { return quotas.data_limit(project); },
          .cores = dispatch_options(base.config).cores,
          .egress = base.egress,
          .secrets = *base.vault.secrets,
          .max_upload = base.config.max_upload,
          .prices = base.prices,
          .enroll = std::move(enroll),
          .record =
              [&base](const FunctionName& function, VersionNumber version) {
                return find_training_record(base.registry, base.blobs, function, version);
              }};
}

}  // namespace mayfly
