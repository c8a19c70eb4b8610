#include "gateway/training_api.h"

#include <fmt/format.h>

#include <utility>

#include "core/names.h"
#include "core/project.h"
#include "core/reason.h"
#include "gateway/access.h"
#include "gateway/control_api.h"
#include "gateway/job_api.h"

namespace mayfly {

// What the data says of the wish. Blocks.
Result<TrainPlan> TrainingApi::plan(const TrainWish& wish, std::string_view project,
                                    const std::optional<Serving>& serving) {
  const SnapshotRecord snapshot = TRY(parts_.snapshots.find(project, wish.data));
  const DatasetSchema schema = TRY(parts_.snapshots.schema(snapshot));
  const Json statistics = TRY(parts_.snapshots.statistics(snapshot));
  const JobEngine::Options& options = parts_.engine.options();
  Json record;
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
                       .record = std::move(record)});
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
  if (wish.trainer == to_string(TrainerKind::Function)) {
    co_return refuse(reason::kUnsupported,
                     "this node trains with its own trainers: xgboost, linear, kmeans");
  }
  // Who trains on rows reads them.
  CO_TRY_STATUS(check_access(*route.caller, Needs::ReadData, wish.data.dataset));
  const std::string& project = route.caller->project;
  std::optional<Serving> serving;
  if (const FunctionTable::Entry function = parts_.catalog.table()->find(route.name))
    serving = Serving{.function = function->name, .version = function->current};
  CO_TRY(const TrainPlan planned,
         co_await parts_.pool.run([&] { return plan(wish, project, serving); }));
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
