#include "gateway/training_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/names.h"
#include "core/project.h"
#include "core/reason.h"
#include "gateway/access.h"
#include "gateway/control_api.h"
#include "gateway/job_api.h"
#include "serving/measured.h"
#include "serving/serving.h"

namespace mayfly {
namespace {

// Versions that were published before this was noted say nothing; whether they have one shows when
// they are run.
bool may_have_train(const std::string& report) {
  const Measured measured = parse_measured(report);
  return measured.entries.empty() ||
         std::ranges::find(measured.entries, "train") != measured.entries.end();
}

std::string version_of(const Serving& serving) {
  return fmt::format("{}@{}", local_name(serving.function), serving.version.value);
}

}  // namespace

// What the data says of the wish. Blocks.
Result<TrainPlan> TrainingApi::plan(const TrainWish& wish, std::string_view project,
                                    const Known& known) {
  const SnapshotRecord snapshot = TRY(parts_.snapshots.find(project, wish.data));
  const DatasetSchema schema = TRY(parts_.snapshots.schema(snapshot));
  const Json statistics = TRY(parts_.snapshots.statistics(snapshot));
  const JobEngine::Options& options = parts_.engine.options();
  Json record;
  const std::optional<Serving>& serving = known.serving;
  if (serving && parts_.record && wish.search) {
    // Nothing is lost where it cannot be read: the search starts without it.
    auto found = parts_.record(serving->function, serving->version);
    if (found && *found) record = **std::move(found);
  }
  return settle(wish, {.snapshot = snapshot,
                       .schema = schema,
                       .statistics = statistics,
                       .cpus = options.cpus,
                       .memory = options.memory,
                       .seed = parts_.rng.next(),
                       .serving = serving ? fmt::format("{}@{}", serving->function.str(),
                                                        serving->version.value)
                                          : "",
                       .record = std::move(record),
                       .code = known.code ? std::optional(known.code->code) : std::nullopt,
                       .code_memory = known.code ? known.code->memory : Bytes{},
                       .shipped = ShippedFunctions::name_of(wish.trainer)});
}

// Of the caller's project, and of a function that he may invoke: its code is run for him.
Task<Result<TrainingApi::Code>> TrainingApi::find_code(const TrainWish& wish,
                                                       const Principal& caller) {
  CO_TRY(const std::string wanted, admit(caller, Needs::Invoke, wish.function));
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(wanted, ""));
  CO_TRY(const ServingRef serving, co_await parts_.catalog.find(resolved));
  const Manifest& manifest = *serving->manifest;
  const std::string version = version_of(*serving);
  if (!is_python(manifest.options))
    co_return refuse(
        reason::kInvalidInput,
        fmt::format("{} is a model: only Python functions have a train(ctx)", version));
  CO_TRY(const std::vector<VersionRow> rows, co_await parts_.pool.run([&] {
    return parts_.registry.versions(resolved.function->name);
  }));
  const auto row = std::ranges::find(rows, serving->version.value, &VersionRow::number);
  if (row != rows.end() && !may_have_train(row->report))
    co_return refuse(
        reason::kInvalidInput,
        fmt::format("{} has no function train(ctx) (docs/python-training.md)", version));
  co_return Code{.code = train_code(version, manifest), .memory = manifest.options.memory};
}

Task<Result<std::optional<TrainingApi::Code>>> TrainingApi::find_shipped(const TrainWish& wish,
                                                                         const Principal& caller) {
  CO_TRY(const ServingRef serving, co_await parts_.shipped.find(caller.project, wish.trainer));
  if (!serving) co_return std::nullopt;
  co_return Code{.code = train_code(version_of(*serving), *serving->manifest),
                 .memory = serving->manifest->options.memory};
}

Task<Result<Response>> TrainingApi::create(Exchange& exchange, const Route& route) {
  const std::string name(local_name(route.name));
  if (!FunctionName::parse(name)) {
    co_return refuse(reason::kBadRequest,
                     fmt::format("'{}' is no name of a function: a-z, 0-9, '.', '_' and '-', at "
                                 "most 63",
                                 name.substr(0, 64)));
  }
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  CO_TRY(const Json json, parse_json(text, "training"));
  CO_TRY(const TrainWish wish, parse_train_wish(json));
  // Who trains on rows reads them.
  CO_TRY_STATUS(check_access(*route.caller, Needs::ReadData, wish.data.dataset));
  const std::string& project = route.caller->project;
  Known known;
  if (const FunctionTable::Entry function = parts_.catalog.table()->find(route.name))
    known.serving = Serving{.function = function->name, .version = function->current};
  if (wish.trainer == to_string(TrainerKind::Function) && !wish.function.empty()) {
    CO_TRY(known.code, co_await find_code(wish, *route.caller));
  } else if (wish.trainer == to_string(TrainerKind::Cnn)) {
    CO_TRY(known.code, co_await find_shipped(wish, *route.caller));
  }
  CO_TRY(const TrainPlan planned,
         co_await parts_.pool.run([&] { return plan(wish, project, known); }));
  JobSubmission job{.id = to_string(parts_.ids.next()),
                    .function = route.name,
                    .version = 0,
                    .kind = JobKind::Train,
                    .detail = to_json(planned),
                    .caller = route.caller->name,
                    .memory = {},
                    .cpus = 0,
                    .submitted = parts_.engine.now(),
                    .expires = parts_.engine.now() + wish.max_age,
                    .keep = wish.keep};
  CO_TRY(const JobRecord accepted, co_await parts_.engine.submit(std::move(job), {}));
  co_return accepted_job(accepted);
}

}  // namespace mayfly
