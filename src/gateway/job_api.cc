#include "gateway/job_api.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include "core/json_reader.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "gateway/access.h"
#include "gateway/control_api.h"
#include "jobs/batch_slice.h"
#include "runner/report/run_job.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kShortest = 1s;
constexpr Duration kLongest = std::chrono::days(365);
constexpr Duration kMaxAge = std::chrono::days(7);
constexpr Duration kKeep = std::chrono::days(7);
constexpr Bytes kBatchMemory = gib(1);
constexpr std::size_t kMostJobsListed = 1000;
constexpr std::size_t kMaxBatchDetail = 24 * 1024;
constexpr std::size_t kPieceOfFile = 256 * 1024;

std::string place_of_job(std::string_view id) { return fmt::format("/api/v1/jobs/{}", id); }

Json json_or_null(const std::string& text) {
  const auto json = parse_json(text, "kept JSON");
  return json ? *json : Json();
}

// Now that it is known whose it is.
Needs needs_of_job(JobKind kind, Endpoint endpoint) {
  const bool sees = needs_of(endpoint) == Needs::SeeJob;
  if (is_of_dataset(kind)) return sees ? Needs::ReadData : Needs::Data;
  if (is_of_training(kind)) return sees ? Needs::Describe : Needs::Deploy;
  return sees ? Needs::Describe : Needs::Invoke;
}

Json describe_progress(const JobRecord& job) {
  Json about{{"text", job.progress.text}, {"metrics", json_or_null(job.progress.metrics)}};
  const double fraction = job.progress.fraction;
  if (fraction < 0) return about;
  about["fraction"] = fraction;
  if (job.state != JobState::Running || fraction == 0 || job.ran <= Duration::zero()) return about;
  // As things go.
  const double ran = std::chrono::duration<double>(job.ran).count();
  about["eta_s"] = std::max(0.0, ran / fraction - ran);
  return about;
}

// Hundreds, which `describe` of the version shows, and the record of what it trained.
Json without_packages(Json about) {
  if (about.is_object() && about.contains("code") && about["code"].is_object())
    about["code"].erase("packages");
  return about;
}

}  // namespace

Json describe_job(const JobRecord& job) {
  const JobSubmission& spec = job.spec;
  Json about{{"id", spec.id}};
  if (is_of_dataset(spec.kind)) {
    about["dataset"] = local_name(spec.function);
  } else {
    about["function"] = local_name(spec.function);
    if (!is_of_training(spec.kind)) about["version"] = spec.version;
  }
  if (!spec.parent.empty()) about["parent"] = spec.parent;
  about.update({{"kind", to_string(spec.kind)},
                {"state", to_string(job.state)},
                {"caller", spec.caller},
                {"memory", to_string(spec.memory)},
                {"submitted", format_time(spec.submitted)},
                {"expires", format_time(spec.expires)},
                {"slices", job.slices},
                {"progress", describe_progress(job)},
                {"cpu_s", std::chrono::duration<double>(job.cpu).count()},
                {"ran_s", std::chrono::duration<double>(job.ran).count()}});
  if (job.held && job.state == JobState::Running) about["pausing"] = true;
  if (job.failures > 0) about["failures"] = job.failures;
  if (job.started != WallTime{}) about["started"] = format_time(job.started);
  if (is_over(job.state)) {
    about["ended"] = format_time(job.ended);
    about["kept_until"] = format_time(job.ended + spec.keep);
  }
  if (spec.kind == JobKind::Train && !spec.detail.empty())
    about["training"] = without_packages(json_or_null(spec.detail));
  if (!job.result.empty()) about["result"] = without_packages(json_or_null(job.result));
  if (!job.reason.empty()) {
    about["reason"] = job.reason;
    about["error"] = without_project(project_of(spec.function), job.message);
  }
  return about;
}

namespace {

// Rows that the model takes at once: what its signature leaves open.
Result<std::uint32_t> most_rows(const Signature& signature, std::uint32_t wanted) {
  for (const TensorSpec& input : signature.inputs) {
    if (input.shape.empty() || input.shape.front() == -1) continue;
    if (input.shape.front() == 1) return 1U;
    return refuse(reason::kBadRequest,
                  fmt::format("input '{}' takes exactly {} rows at once; a batch needs a model "
                              "whose first dimension is open (-1) or 1",
                              input.name, input.shape.front()));
  }
  return wanted;
}

}  // namespace

Response accepted_job(const JobRecord& job) {
  Response response = json_response(describe_job(job), 202);
  response.headers.add("Location", place_of_job(job.spec.id));
  return response;
}

Task<Result<Response>> JobApi::call(Exchange& exchange, const Route& route) {
  if (route.endpoint == Endpoint::SubmitJob) co_return co_await submit(exchange, route);
  if (route.endpoint == Endpoint::ListJobs) co_return co_await list(exchange, route);
  CO_TRY(JobRecord job, co_await find(route));
  switch (route.endpoint) {
    case Endpoint::CancelJob: {
      CO_TRY(JobRecord ended, co_await parts_.engine.cancel(job.spec.id));
      co_return json_response(describe_job(ended));
    }
    case Endpoint::PauseJob: {
      CO_TRY(JobRecord paused, co_await parts_.engine.pause(job.spec.id));
      co_return json_response(describe_job(paused));
    }
    case Endpoint::ResumeJob: {
      CO_TRY(JobRecord resumed, co_await parts_.engine.resume(job.spec.id));
      co_return json_response(describe_job(resumed));
    }
    default:
      co_return co_await show(std::move(job));
  }
}

Task<Result<JobRecord>> JobApi::find(const Route& route) {
  CO_TRY(JobRecord job, co_await parts_.engine.find(route.version));
  const std::string_view function = job.spec.function;
  const bool own = project_of(function) == route.caller->project &&
                   check_access(*route.caller, needs_of_job(job.spec.kind, route.endpoint),
                                local_name(function));
  if (!own) {
    co_return refuse(reason::kNotFound,
                     fmt::format("there is no job '{}'", route.version.substr(0, 64)));
  }
  co_return job;
}

Task<Result<Response>> JobApi::show(JobRecord job) {
  CO_TRY(const std::vector<JobFile> files, co_await parts_.engine.files(job.spec.id));
  Json about = describe_job(job);
  about["files"] = Json::array();
  for (const JobFile& file : files) {
    if (file.role != FileRole::Result) continue;
    about["files"].push_back(
        {{"name", file.name}, {"size", file.size}, {"sha256", to_string(file.digest)}});
  }
  co_return json_response(about);
}

Task<Result<Response>> JobApi::submit(Exchange& exchange, const Route& route) {
  // Who asks for a function that is not there sends no body for it.
  CO_TRY_STATUS(parts_.catalog.resolve(route.name, ""));
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  CO_TRY(Json wanted, parse_json(text, "job"));
  Request request{.function = route.name,
                  .project = route.caller->project,
                  .caller = route.caller->name,
                  .wanted = std::move(wanted),
                  .id = ""};
  CO_TRY(const JobRecord accepted, co_await submit(std::move(request)));
  co_return accepted_job(accepted);
}

Task<Result<JobRecord>> JobApi::submit(Request request) {
  std::string id = request.id.empty() ? to_string(parts_.ids.next()) : request.id;
  CO_TRY(Prepared prepared, co_await prepare(std::move(request)));
  JobSubmission& job = prepared.job;
  job.id = std::move(id);
  job.submitted = parts_.engine.now();
  job.expires = job.submitted + Duration(job.expires.time_since_epoch());
  co_return co_await parts_.engine.submit(std::move(job), std::move(prepared.inputs));
}

Task<Result<JobApi::Prepared>> JobApi::prepare(Request request) {
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(request.function, ""));
  CO_TRY(const ServingRef serving, co_await parts_.catalog.find(resolved));
  const Json& wanted = request.wanted;
  std::string kind;
  if (wanted.is_object() && wanted.contains("kind") && wanted["kind"].is_string())
    kind = wanted["kind"].get<std::string>();
  if (kind != "run" && kind != "batch")
    co_return refuse(reason::kBadRequest, "job: kind must be \"run\" or \"batch\"");
  auto read =
      kind == "run" ? co_await read_run(wanted, serving) : co_await read_batch(request, serving);
  if (!read) co_return std::unexpected(std::move(read).error());
  JobSubmission& job = read->job;
  job.function = serving->function;
  job.version = serving->version.value;
  job.caller = request.caller;
  co_return *std::move(read);
}

namespace {

// Keys of both kinds. Until it is submitted `expires` counts from zero.
void read_common(JsonReader& reader, JobSubmission& job) {
  std::string kind;
  Duration max_age = kMaxAge;
  job.keep = kKeep;
  reader.text("kind", kind)
      .duration("max_age", max_age, kShortest, kLongest)
      .duration("keep_for", job.keep, kShortest, kLongest);
  job.expires = WallTime(max_age);
}

}  // namespace

Task<Result<JobApi::Prepared>> JobApi::read_run(const Json& wanted, ServingRef serving) {
  Prepared read;
  read.job.kind = JobKind::Run;
  JsonReader reader(wanted, "job", reason::kBadRequest);
  read_common(reader, read.job);
  const Json* inputs = reader.value("inputs");
  CO_TRY_STATUS(reader.finish());
  const Manifest& manifest = *serving->manifest;
  if (!is_python(manifest.options)) {
    co_return refuse(reason::kBadRequest,
                     "only Python functions have a run(inputs, ctx); a batch runs every function");
  }
  read.job.detail = inputs == nullptr ? "{}" : inputs->dump();
  if (read.job.detail.size() > kMaxRunInputs) {
    co_return refuse(reason::kTooLarge,
                     fmt::format("inputs are longer than {}", to_string(Bytes{kMaxRunInputs})));
  }
  read.job.memory = manifest.options.memory;
  read.job.cpus = manifest.options.threads;
  co_return read;
}

Task<Result<JobApi::Prepared>> JobApi::read_batch(const Request& request, ServingRef serving) {
  const Json& wanted = request.wanted;
  Prepared read;
  read.job.kind = JobKind::Batch;
  Json of_batch = wanted;
  for (const char* key : {"kind", "max_age", "keep_for", "input", "window"}) of_batch.erase(key);
  CO_TRY(BatchDetail detail, parse_batch_detail(of_batch.dump()));
  Json rest = wanted;
  for (const auto& [key, value] : of_batch.items()) rest.erase(key);
  JsonReader reader(rest, "job", reason::kBadRequest);
  read_common(reader, read.job);
  const Json* input = reader.value("input");
  CO_TRY_STATUS(reader.finish());
  if (input == nullptr) {
    co_return refuse(reason::kBadRequest,
                     "job: input must say which uploaded file: {\"sha256\": \"…\"}");
  }
  if (serving->manifest->streams) {
    co_return refuse(reason::kBadRequest,
                     "this function streams its replies; a batch needs one answer for each row");
  }
  CO_TRY(detail.chunk_rows, most_rows(serving->signature(), detail.chunk_rows));
  const std::uint32_t most = serving->settings->max_instances;
  detail.window =
      std::clamp(most == 0 ? parts_.cores : std::min(most, parts_.cores), 1U, kMaxBatchWindow);
  CO_TRY(JobFile file, co_await take_input(*input, request, read.pin));
  read.inputs.push_back(std::move(file));
  read.job.detail = to_json(detail);
  if (read.job.detail.size() > kMaxBatchDetail) {
    co_return refuse(reason::kTooLarge, fmt::format("columns and keep are longer than {} together",
                                                    to_string(Bytes{kMaxBatchDetail})));
  }
  read.job.memory = std::min(kBatchMemory, parts_.engine.options().memory);
  co_return read;
}

// Jobs keep files of their own: the same bytes, under another name. What is kept already was looked
// at when it was uploaded.
Task<Result<JobFile>> JobApi::take_input(const Json& input, const Request& request, Pin& pin) {
  std::string sha256;
  JsonReader reader(input, "input", reason::kBadRequest);
  reader.text("sha256", sha256);
  CO_TRY_STATUS(reader.finish());
  const auto digest = parse_digest(sha256);
  if (!digest) co_return refuse(reason::kBadRequest, "input: sha256 must be 64 hexadecimal digits");
  pin = parts_.engine.store().pin();
  co_return co_await parts_.engine.pool().run([&]() -> Result<JobFile> {
    JobFile file{.role = FileRole::Input, .name = "input", .digest = *digest};
    if (request.input == Request::Input::Kept) {
      pin.add(*digest);
      const std::optional<BlobInfo> kept = TRY(parts_.blobs.find(*digest));
      if (!kept) return fail(Code::DataLoss, fmt::format("the input {} is missing", sha256));
      file.size = kept->size;
      return file;
    }
    const Pin upload = parts_.pins.hold({*digest});
    if (!TRY(parts_.owners.has(request.project, *digest))) {
      return refuse(reason::kNotFound,
                    fmt::format("nothing with the digest {} was uploaded", sha256));
    }
    pin.add(*digest);
    parts_.engine.store().watch(*digest);
    file.size = TRY(parts_.blobs.adopt(*digest, parts_.uploads)).size;
    return file;
  });
}

Task<Result<Response>> JobApi::list(const Exchange& exchange, const Route& route) {
  JobStore::ListAsk ask{.project = std::string(route.caller->project)};
  const RequestHead& head = exchange.head();
  ask.before = head.query("before").value_or("");
  ask.parent = head.query("parent").value_or("");
  const std::string function = head.query("function").value_or("");
  if (!function.empty()) ask.function = qualified_name(route.caller->project, function);
  const std::string state = head.query("state").value_or("");
  ask.state = parse_job_state(state);
  if (!state.empty() && !ask.state) {
    co_return refuse(reason::kBadRequest,
                     "state must be queued, running, paused, done, failed, cancelled or expired");
  }
  const std::string limit = head.query("limit").value_or("100");
  const auto [end, error] = std::from_chars(limit.data(), limit.data() + limit.size(), ask.limit);
  if (error != std::errc() || end != limit.data() + limit.size() || ask.limit < 1 ||
      ask.limit > kMostJobsListed) {
    co_return refuse(reason::kBadRequest, fmt::format("limit must be 1 to {}", kMostJobsListed));
  }
  CO_TRY(const std::vector<JobRecord> jobs, co_await parts_.engine.list(std::move(ask)));
  Json listed = Json::array();
  for (const JobRecord& job : jobs) {
    const Needs needs = needs_of_job(job.spec.kind, route.endpoint);
    if (check_access(*route.caller, needs, local_name(job.spec.function)))
      listed.push_back(describe_job(job));
  }
  CO_TRY(const Bytes kept, co_await parts_.engine.bytes_of(route.caller->project));
  co_return json_response({{"jobs", std::move(listed)}, {"kept_bytes", kept.count}});
}

Task<Status> JobApi::send_file(Exchange& exchange, const Route& route,
                               std::string_view cors_origin) {
  CO_TRY(const JobRecord job, co_await find(route));
  CO_TRY(const std::vector<JobFile> files, co_await parts_.engine.files(job.spec.id));
  const std::string name = exchange.head().query("name").value_or("");
  const auto found = std::ranges::find_if(files, [&](const JobFile& file) {
    return file.role == FileRole::Result && file.name == name;
  });
  if (found == files.end()) {
    co_return refuse(reason::kNotFound, fmt::format("the job has no file '{}'; it is {}",
                                                    name.substr(0, 200), to_string(job.state)));
  }
  Pool& pool = parts_.engine.pool();
  CO_TRY(const Fd file,
         co_await pool.run([&] { return parts_.engine.store().open_file(found->digest); }));
  Headers headers{{"Content-Type", "application/octet-stream"}};
  if (!cors_origin.empty()) headers.add("Access-Control-Allow-Origin", cors_origin);
  CO_TRY_STATUS(co_await exchange.start(200, std::move(headers)));
  std::string piece(kPieceOfFile, '\0');
  for (std::uint64_t at = 0; at < found->size;) {
    const auto got = co_await pool.run(
        [&] { return ::pread(file.get(), piece.data(), piece.size(), static_cast<off_t>(at)); });
    // Its client sees a reply that is cut off.
    if (got <= 0) co_return Status{};
    if (!co_await exchange.write(std::string_view(piece).substr(0, static_cast<std::size_t>(got))))
      co_return Status{};
    at += static_cast<std::uint64_t>(got);
  }
  (void)co_await exchange.finish();
  co_return Status{};
}

}  // namespace mayfly
