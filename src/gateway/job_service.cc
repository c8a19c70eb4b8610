#include "gateway/job_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <utility>

#include "async/sleep.h"
#include "base/log.h"
#include "core/project.h"
#include "core/reason.h"
#include "events/event.h"
#include "events/verdict.h"
#include "gateway/stored_exchange.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kFirstPause = 20ms;
constexpr Duration kLongestPause = 2s;
constexpr std::size_t kSourceThreads = 2;  // sources that are fetched at a time
constexpr Duration kLookAtPart = 200ms;
// Rows are not to blame for these, and no smaller chunk helps.
constexpr std::array kFatal = {reason::kUnknownFunction, reason::kUnknownVersion, reason::kNotFound,
                               reason::kUnsupported};

RequestHead head_of_chunk(const ChunkAsk& ask) {
  RequestHead head;
  head.method = Method::Post;
  head.method_text = "POST";
  const std::string_view name = local_name(ask.job.spec.function);
  if (ask.header == 0) {
    head.target = fmt::format("/functions/{}@{}", name, ask.job.spec.version);
    head.headers.add("Content-Type", "application/json");
  } else {
    head.target = fmt::format("/v2/models/{}/versions/{}/infer", name, ask.job.spec.version);
    head.headers.add("Content-Type", "application/octet-stream");
    head.headers.add("Inference-Header-Content-Length", std::to_string(ask.header));
  }
  head.headers.add("X-Request-Id", ask.job.spec.id);
  return head;
}

std::uint64_t header_length(const Headers& headers) {
  const std::string_view text = headers.find("Inference-Header-Content-Length").value_or("0");
  std::uint64_t length = 0;
  std::from_chars(text.data(), text.data() + text.size(), length);
  return length;
}

BatchAnswer refused(const Error& error) {
  const std::string_view slug = error.reason.empty() ? reason::kInternal : error.reason;
  return {.slot = 0,
          .status = static_cast<std::uint32_t>(http_status(error)),
          .bytes = 0,
          .header = 0,
          .reason = std::string(slug),
          .error = error.message,
          .fatal = std::ranges::find(kFatal, slug) != kFatal.end()};
}

// A training by a Python function's train(ctx).
bool is_of_function(const JobRecord& job) {
  const auto training = parse_train_job(job.spec.detail);
  return training && *training && is_function((*training)->trainer);
}

}  // namespace

Result<JobStores> JobStores::open(const DataDir& data, std::unique_ptr<BlobStore> blobs,
                                  const Clock& clock, ScheduleStore& schedules) {
  JobStores stores{.blobs = std::move(blobs), .datasets = nullptr, .jobs = nullptr};
  stores.datasets = TRY(DatasetStore::open(data.datasets_db()));
  const auto named = [&schedules,
                      &datasets = *stores.datasets](const Digest& file) -> Result<bool> {
    if (TRY(schedules.has_input(file))) return true;
    return datasets.names(file);
  };
  stores.jobs = TRY(JobStore::open(data.jobs_db(), *stores.blobs, clock, named));
  return stores;
}

JobService::JobService(JobStores stores, const Parts& parts, JobEngine::Options options)
    : parts_(parts),
      stores_(std::move(stores)),
      pool_(parts.loop, "slices", 2),
      fetch_pool_(parts.loop, "sources", kSourceThreads),
      fetcher_({.client = parts.egress, .secrets = parts.secrets, .rng = parts.rng}),
      runs_(slice_parts(parts), [this](const JobRecord& job) { return code_of(job); }),
      batches_(
          slice_parts(parts), [this](const JobRecord& job) { return signature_of(job); },
          [this](ChunkAsk ask) { return predict(std::move(ask)); }),
      ingests_(
          {.slices = slice_parts(parts),
           .datasets = *stores_.datasets,
           .byte_limit = parts.data_limit,
           .fetch = {.loop = parts.loop,
                     .pool = fetch_pool_,
                     .store = *stores_.jobs,
                     .blobs = *stores_.blobs,
                     .download = [this](const DownloadAsk& ask,
                                        BlobWriter& into) { return fetcher_.fetch(ask, into); },
                     .byte_limit = parts.byte_limit,
                     .most = parts.max_upload}}),
      snapshots_(*stores_.datasets, *stores_.blobs),
      trials_(slice_parts(parts), [this](const JobRecord& job) { return learned_from(job); }),
      python_trials_(
          slice_parts(parts), [this](const JobRecord& job) { return learned_from(job); },
          [this](const JobRecord& job, const std::string& function) {
            return training_code(job, function);
          }),
      scores_(slice_parts(parts), [this](const JobRecord& job) { return scored_on(job); }),
      engine_({.loop = parts.loop,
               .store = *stores_.jobs,
               .rng = parts.rng,
               .run = [this](SliceAsk ask) { return run(std::move(ask)); },
               .bill = [this](const JobRecord& job,
                              const SliceBill& spent) { return bill(job, spent); },
               .has_memory = parts.has_memory,
               .byte_limit = parts.byte_limit},
              options),
      trainings_({.loop = parts.loop,
                  .pool = pool_,
                  .engine = engine_,
                  .snapshots = snapshots_,
                  .cost = [this](const JobRecord& job) { return cost_of(job); },
                  .enroll = parts.enroll,
                  .bring =
                      [this](TrainingSlices::Parts::BringAsk ask) {
                        return bring_trainer(std::move(ask));
                      }}),
      api_({.loop = parts.loop,
            .engine = engine_,
            .catalog = parts.catalog,
            .ids = parts.ids,
            .uploads = parts.uploads,
            .blobs = *stores_.blobs,
            .owners = parts.owners,
            .pins = parts.pins,
            .cores = parts.cores}),
      datasets_({.pool = engine_.pool(),
                 .engine = engine_,
                 .datasets = *stores_.datasets,
                 .ids = parts.ids,
                 .rng = parts.rng,
                 .fetcher = fetcher_,
                 .uploads = parts.uploads,
                 .blobs = *stores_.blobs,
                 .owners = parts.owners,
                 .pins = parts.pins}),
      training_api_({.pool = engine_.pool(),
                     .engine = engine_,
                     .snapshots = snapshots_,
                     .catalog = parts.catalog,
                     .registry = parts.registry,
                     .shipped = parts.shipped,
                     .ids = parts.ids,
                     .rng = parts.rng,
                     .record = parts.record}) {}

ScheduledJobs JobService::scheduled() {
  JobStore& store = *stores_.jobs;
  return {.submit =
              [this](Schedule schedule, std::string id, std::string request) {
                return submit_scheduled(std::move(schedule), std::move(id), std::move(request));
              },
          .find = [&store](const std::string& id) -> Result<std::optional<ScheduledJobs::Found>> {
            const std::optional<JobRecord> job = TRY(store.find(id));
            if (!job) return std::nullopt;
            return ScheduledJobs::Found{.submitted = job->spec.submitted,
                                        .over = is_over(job->state),
                                        .state = std::string(to_string(job->state)),
                                        .reason = job->reason,
                                        .message = job->message};
          },
          .drop = [&store](const Digest& input) { store.watch(input); }};
}

BackupPart JobService::backup() {
  const auto copy = [this](const Path& to) -> Result<BackupPart::Copied> {
    auto pin = std::make_shared<Pin>(stores_.jobs->pin());
    BackupPart::Copied copied{.named = {}, .hold = pin};
    TRY(stores_.datasets->copy_to(to, [&](const Digest& digest) {
      pin->add(digest);
      copied.named.push_back(digest);
    }));
    return copied;
  };
  return {.database = "datasets.db", .folder = "jobs", .blobs = *stores_.blobs, .copy = copy};
}

Task<Status> JobService::submit_scheduled(Schedule schedule, std::string id, std::string request) {
  const auto there = co_await engine_.find(id);
  if (there) co_return Status{};
  if (there.error().reason != reason::kNotFound) co_return std::unexpected(there.error());
  CO_TRY(Json wanted, parse_json(request, "job"));
  JobApi::Request asked{.function = qualified_name(schedule.project, schedule.target.name),
                        .project = schedule.project,
                        .caller = schedule.caller,
                        .wanted = std::move(wanted),
                        .id = std::move(id),
                        .input = JobApi::Request::Input::Kept};
  CO_TRY_STATUS(co_await api_.submit(std::move(asked)));
  co_return Status{};
}

Task<Result<JobRecord>> JobService::run_to_end(JobSubmission job, std::vector<JobFile> inputs,
                                               CancelToken stop) {
  const std::string id = job.id;
  const auto there = co_await engine_.find(id);
  if (!there && there.error().reason != reason::kNotFound) co_return std::unexpected(there.error());
  if (!there) {
    CO_TRY_STATUS(co_await engine_.submit(std::move(job), std::move(inputs)));
  }
  while (true) {
    CO_TRY(JobRecord now, co_await engine_.find(id));
    if (is_over(now.state)) co_return now;
    if (!co_await sleep_for(parts_.loop, kLookAtPart, stop))
      co_return fail(Code::Cancelled, "the node stops");
  }
}

SliceParts JobService::slice_parts(const Parts& parts) {
  return {.loop = parts.loop,
          .pool = pool_,
          .jobs = parts.runner,
          .store = *stores_.jobs,
          .blobs = *stores_.blobs,
          .tmp = parts.data.tmp()};
}

Task<SliceOutcome> JobService::run(SliceAsk ask) {
  switch (ask.job.spec.kind) {
    case JobKind::Run:
      co_return co_await runs_.run(std::move(ask));
    case JobKind::Ingest:
      co_return co_await ingests_.run(std::move(ask));
    case JobKind::Train:
      co_return co_await trainings_.run(std::move(ask));
    case JobKind::Trial:
      if (is_of_function(ask.job)) co_return co_await python_trials_.run(std::move(ask));
      co_return co_await trials_.run(std::move(ask));
    case JobKind::Score:
      co_return co_await scores_.run(std::move(ask));
    case JobKind::Batch:
      break;
  }
  co_return co_await batches_.run(std::move(ask), engine_.options().slice);
}

Task<Result<std::vector<SourceFile>>> JobService::learned_from(const JobRecord& job) {
  CO_TRY(const DataRef data, parse_data_ref(job.spec.detail));
  co_return co_await pool_.run([&]() -> Result<std::vector<SourceFile>> {
    const SnapshotRecord snapshot = TRY(snapshots_.find(project_of(job.spec.function), data));
    return snapshots_.to_learn_from(snapshot);
  });
}

Task<Result<std::vector<SourceFile>>> JobService::scored_on(const JobRecord& job) {
  CO_TRY(const DataRef data, parse_data_ref(job.spec.detail));
  CO_TRY(const std::optional<ScoreJob> wanted, parse_score_job(job.spec.detail));
  if (!wanted) co_return fail(Code::Internal, "the job's detail is no scoring");
  const SnapshotFiles::ScoreAsk ask{
      .split = wanted->split,
      .columns = guessed_by(*wanted),
      .target = wanted->target,
      .looker = job.spec.parent.empty() ? job.spec.id : job.spec.parent,
      .now = engine_.now(),
      .shows =
          wanted->requests > 0 ? SnapshotFiles::Shows::Features : SnapshotFiles::Shows::Answers};
  co_return co_await pool_.run([&]() -> Result<std::vector<SourceFile>> {
    const SnapshotRecord snapshot = TRY(snapshots_.find(project_of(job.spec.function), data));
    return snapshots_.to_score(snapshot, ask);
  });
}

// As the bill has it.
double JobService::cost_of(const JobRecord& job) const {
  constexpr double kNano = 1e-9;
  const double gib_held =
      static_cast<double>(job.spec.memory.count) / static_cast<double>(gib(1).count);
  const double gib_seconds = gib_held * std::chrono::duration<double>(job.ran).count();
  const double cpu_seconds = std::chrono::duration<double>(job.cpu).count();
  return kNano * (gib_seconds * static_cast<double>(parts_.prices.gib_second) +
                  cpu_seconds * static_cast<double>(parts_.prices.cpu_second));
}

Task<Result<ServingRef>> JobService::serving_of(const JobRecord& job) {
  CO_TRY(const ResolvedVersion resolved,
         parts_.catalog.resolve(job.spec.function, std::to_string(job.spec.version)));
  co_return co_await parts_.catalog.find(resolved);
}

Task<Result<JobCode>> JobService::code_of(const JobRecord& job) {
  CO_TRY(const ServingRef serving, co_await serving_of(job));
  co_return co_await code_served(serving);
}

// "mytrainer@3", of the project whose function it trains.
Task<Result<JobCode>> JobService::training_code(JobRecord job, std::string function) {
  const std::string name = qualified_name(project_of(job.spec.function), function);
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(name, ""));
  CO_TRY(const ServingRef serving, co_await parts_.catalog.find(resolved));
  co_return co_await code_served(serving);
}

Task<Result<TrainCode>> JobService::bring_trainer(TrainingSlices::Parts::BringAsk ask) {
  ShippedFunctions::Ask wanted{.project = std::move(ask.project),
                               .shipped = std::string(to_string(ask.trainer)),
                               .who = std::move(ask.who),
                               .told = std::move(ask.told),
                               .cancel = ask.cancel};
  CO_TRY(const ServingRef serving, co_await parts_.shipped.provide(std::move(wanted)));
  co_return train_code(fmt::format("{}@{}", serving->name(), serving->version.value),
                       *serving->manifest);
}

Task<Result<JobCode>> JobService::code_served(ServingRef serving) {
  CO_TRY(Path artifact, co_await serving->runtime->artifact());
  JobCode code{
      .artifact = std::move(artifact), .environment = serving->runtime->environment, .secrets = {}};
  if (serving->runtime->secrets) {
    CO_TRY(code.secrets, co_await serving->runtime->secrets());
  }
  co_return code;
}

Task<Result<Signature>> JobService::signature_of(const JobRecord& job) {
  CO_TRY(const ServingRef serving, co_await serving_of(job));
  co_return serving->manifest->documents ? Signature{} : serving->signature();
}

// What the platform is to blame for is tried again, until the slice is to end.
Task<ChunkReply> JobService::predict(ChunkAsk ask) {
  for (Duration pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    ChunkReply reply = co_await predict_once(ask);
    if (!reply.put_back) co_return reply;
    if (ask.stop.cancelled() || !co_await sleep_for(parts_.loop, pause, ask.cancel)) {
      reply.answer.fatal = true;
      co_return reply;
    }
  }
}

Task<ChunkReply> JobService::predict_once(const ChunkAsk& ask) {
  const std::string_view project = project_of(ask.job.spec.function);
  StoredExchange exchange(head_of_chunk(ask), ask.body, ask.cancel);
  RouteResult found = find_route("POST", exchange.head().path());
  CHECK(found.route.has_value());
  Route& route = *found.route;
  route.name = qualified_name(project, route.name);
  route.caller = std::make_shared<const Principal>(
      Principal{.project = std::string(project), .name = ask.job.spec.caller, .scopes = {}});
  EventTry tried{.attempt = {.event = invocation_id_of(ask.job.spec.id), .number = 1},
                 .source = fmt::format("{} jobs", project),
                 .outcome = {},
                 .record = {}};
  co_await parts_.predictions.handle(exchange, route, *protocol_of(route.endpoint), "", &tried);
  const StartTier tier = tried.record ? tried.record->tier : StartTier::None;
  ChunkReply reply;
  if (tried.outcome) {
    reply.body = exchange.take_reply();
    reply.answer.bytes = reply.body.size();
    reply.answer.header = header_length(exchange.headers());
  } else {
    reply.answer = refused(tried.outcome.error());
    reply.put_back = judge({.reason = reply.answer.reason, .tier = tier}, {.max_attempts = 2}) ==
                         Verdict::PutBack &&
                     !reply.answer.fatal;
  }
  if (tried.record && tier != StartTier::None) {
    const Status written = co_await parts_.ledger.commit(
        reply.put_back ? unbilled(*std::move(tried.record)) : *std::move(tried.record));
    // What nobody can bill is not given away.
    if (!written) {
      reply.answer = refused(written.error());
      reply.put_back = true;
    }
  }
  co_return reply;
}

Task<void> JobService::bill(const JobRecord& job, const SliceBill& spent) {
  if (job.spec.kind == JobKind::Train) co_return;  // its parts are billed
  const auto micros = [](Duration time) {
    return std::chrono::duration_cast<std::chrono::microseconds>(time);
  };
  InvocationRecord record{.invocation = parts_.ids.next(),
                          .attempt = 1,
                          .time = spent.began,
                          .project = std::string(project_of(job.spec.function)),
                          .caller = job.spec.caller,
                          .request_id = job.spec.id,
                          .function = std::string(local_name(job.spec.function)),
                          .version = {job.spec.version},
                          .tier = StartTier::Cold,
                          .run = micros(spent.ran),
                          .cpu = micros(spent.cpu),
                          .memory_limit = job.spec.memory,
                          .memory_peak = spent.memory,
                          .received = {},
                          .sent = {},
                          .reason = spent.reason,
                          .event = invocation_id_of(job.spec.id)};
  if (!spent.billed) record = unbilled(std::move(record));
  const Status written = co_await parts_.ledger.commit(record);
  if (!written)
    LOG(error, "a slice's record is not written", {"job", job.spec.id},
        {"error", written.error().message});
}

}  // namespace mayfly
