#include "lineage/registrar.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "core/project.h"
#include "core/reason.h"
#include "lineage/json_parts.h"
#include "lineage/score_files.h"
#include "lineage/trained_version.h"
#include "serving/measured.h"

namespace mayfly {
namespace {

constexpr std::string_view kLinear = "linear";  // of a training's baselines the one that learns
constexpr std::size_t kMaxTrialReport = std::size_t{4} << 20;
constexpr std::uint32_t kRolloutsSeen = 200;

const JobFile* file_named(const std::vector<JobFile>& files, std::string_view name) {
  const auto found = std::ranges::find_if(files, [&](const JobFile& file) {
    return file.role == FileRole::Result && file.name == name;
  });
  return found == files.end() ? nullptr : &*found;
}

std::optional<validation::Interval> interval_in(const Json& metrics, const std::string& name) {
  const Json& one = at(metrics, name);
  const auto value = number_at(one, "value");
  if (!value) return std::nullopt;
  return validation::Interval{*value, number_at(one, "low").value_or(*value),
                              number_at(one, "high").value_or(*value)};
}

gate::Costs costs_of(const Published& published, std::uint64_t size) {
  const Report& report = published.report;
  return {.run = report.candidates.at(report.chosen).warm_run, .size = Bytes{size}};
}

// Time-ordered as its parent, and the same whenever it is asked for.
std::string id_of_part(const std::string& parent, std::string_view what) {
  std::string id = parent;
  const std::string hash = sha256_hex(fmt::format("{} {}", parent, what));
  std::size_t taken = 0;
  for (std::size_t i = 15; i < id.size(); ++i)
    if (id[i] != '-' && i != 19) id[i] = hash[taken++];
  return id;
}

// What it is worth by its metric, beside baselines: of its scoring, or of what its training says.
gate::First first_of(const TrainedModel& trained, const Json& report) {
  gate::First first;
  first.metric = text_at(report, "metric");
  const auto known = validation::parse_metric(first.metric);
  first.higher_is_better =
      known ? validation::info(*known).higher_is_better : first.metric != "inertia";
  const Json result = object_in(trained.job.result);
  const Json score = object_in(trained.score.result);
  const Json& own = at(at(score, "models"), "m0");
  const bool scored = !own.is_null();
  const Json& test = scored ? own : at(result, "test");
  // Rankings and clusters have no bounds; of other metrics, rows that bound nothing prove nothing.
  if (!known || number_at(at(at(test, "metrics"), first.metric), "low"))
    first.score = interval_in(at(test, "metrics"), first.metric);
  first.rows = count_at(scored ? score : test, "rows");
  const Json& known_baselines = at(result, "baselines");
  const Json& baselines = known_baselines.is_null() ? at(score, "baselines") : known_baselines;
  for (const auto& [name, of] : baselines.items()) {
    const Json& metrics = at(of, "metrics");
    const auto value = interval_in(metrics.is_null() ? at(of, "test") : metrics, first.metric);
    if (value) (name == kLinear ? first.models : first.baselines)[name] = value->estimate;
  }
  return first;
}

// What is nobody's fault decides nothing: it is tried again.
bool is_verdict(const Error& error) {
  return error.code != Code::Cancelled && error.code != Code::Unavailable &&
         error.code != Code::ResourceExhausted;
}

Json not_served() { return {{"state", "none"}}; }

Json nobody_asked() {
  return {{"passed", false},
          {"why", "registered without requests: the gate was not asked"},
          {"checks", Json::array()}};
}

}  // namespace

struct Registrar::Found {
  JobFile model;
  Json report;
  TrainTask task = TrainTask::Binary;
  LearnedFrom data;
  Author author;
};

struct Registrar::Champion {
  VersionNumber number;
  TrainedVersion version;
};

struct Registrar::Judged {
  gate::Verdict verdict;
  VersionNumber champion;  // what it was held against; 0: nothing
};

struct Registrar::Comparison {
  Champion champion;
  ScoreJob score;
  validation::Metric metric;
  struct {
    std::string dataset;
    std::uint32_t snapshot;
  } data;
};

Result<std::string> Registrar::read(const Digest& digest, const BlobStore& from,
                                    std::size_t most) const {
  const Fd file = TRY(from.open(digest));
  return read_all_fd(file.get(), most);
}

Result<LearnedFrom> Registrar::find_data(const TrainedModel& trained) const {
  const Json detail = object_in(trained.trial.spec.detail);
  const std::string name = text_at(at(detail, "data"), "dataset");
  const auto number = static_cast<std::uint32_t>(count_at(at(detail, "data"), "snapshot"));
  if (name.empty() || number == 0)
    return refuse(reason::kConflict, "the training does not say what it learned from");
  LearnedFrom data;
  data.dataset = TRY(parts_.datasets.find(project_of(trained.job.spec.function), name));
  data.snapshot = TRY(parts_.datasets.snapshot(data.dataset, number));
  const std::vector<DatasetFile> files = TRY(parts_.datasets.files(data.snapshot));
  const auto schema = std::ranges::find(files, kSchemaFile, &DatasetFile::path);
  if (schema == files.end()) return fail(Code::DataLoss, "the snapshot has no schema");
  const std::string text = TRY(read(schema->digest, parts_.job_blobs, kMaxSchemaJson));
  const DatasetSchema learned = TRY(parse_dataset_schema(text));
  data.split = learned.split;
  data.basis = to_string(sha256(split_basis(learned)));
  return data;
}

// Within the project's quota of bytes. Blocking.
Status Registrar::own(std::string_view project, const BlobInfo& blob) const {
  if (TRY(parts_.owners.has(project, blob.digest))) return {};
  const BlobOwners::Upload upload{.project = project,
                                  .slot = BlobOwners::slot(project, blob.digest),
                                  .size = Bytes{blob.size},
                                  .kind = BlobOwners::Upload::Kind::Fresh};
  std::ignore = TRY(parts_.owners.reserve(upload, parts_.byte_limit(project)));
  return parts_.owners.add(project, blob, upload.slot);
}

// The model becomes one of the versions' blobs.
Result<Registrar::Found> Registrar::find(const TrainedModel& trained, Pin& pin) const {
  const std::vector<JobFile> files = TRY(parts_.jobs.files(trained.trial.spec.id));
  const JobFile* model = file_named(files, kModelFile);
  const JobFile* report = file_named(files, "report.json");
  if (model == nullptr || report == nullptr) {
    return refuse(reason::kConflict,
                  fmt::format("job {} has made no model: it is {}", trained.trial.spec.id,
                              to_string(trained.trial.state)));
  }
  Found found{
      .model = *model, .report = {}, .data = TRY(find_data(trained)), .author = trained.author};
  const std::string text = TRY(read(report->digest, parts_.job_blobs, kMaxTrialReport));
  found.report = TRY(parse_json(text, "report.json"));
  const auto task = parse_train_task(text_at(found.report, "task"));
  if (!task) return refuse(reason::kBadReply, "report.json of the training names no task");
  found.task = *task;
  pin = parts_.pins.hold({model->digest});
  const BlobInfo blob = TRY(parts_.blobs.adopt(model->digest, parts_.job_blobs));
  TRY(own(project_of(trained.job.spec.function), blob));
  return found;
}

Task<Result<Registered>> Registrar::add(TrainedModel trained) {
  CO_TRY(const FunctionName name, FunctionName::parse(trained.job.spec.function));
  Pin pin;
  struct Begun {
    std::optional<VersionNumber> there;
    Json record;
    Found found;
  };
  CO_TRY(const Begun begun, co_await parts_.pool.run([&]() -> Result<Begun> {
    Begun some;
    some.there = TRY(parts_.registry.version_of_job(name, trained.job.spec.id));
    if (!some.there) {
      some.found = TRY(find(trained, pin));
      return some;
    }
    const auto training = TRY(parts_.registry.training(name, *some.there));
    const std::string text = TRY(read(training->record, parts_.blobs, kMaxTrainingRecord));
    some.record = TRY(parse_training_record(text));
    return some;
  }));
  if (begun.there) {
    Json gate = at(begun.record, "gate");
    const gate::Verdict verdict{
        .passed = flag_at(gate, "passed"), .why = text_at(gate, "why"), .checks = {}};
    const auto parent = static_cast<std::uint32_t>(count_at(begun.record, "parent"));
    const Judged judged{.verdict = verdict, .champion = {parent}};
    Json rollout = not_served();
    if (trained.serve && verdict.passed) {
      CO_TRY(rollout, co_await serve(name, *begun.there, judged, trained.author));
    }
    co_return Registered{
        .version = *begun.there, .gate = std::move(gate), .rollout = std::move(rollout)};
  }
  PublishRequest request{.label = name.str(),
                         .files = {{.file = {.path = std::string(kModelFile),
                                             .sha256 = to_string(begun.found.model.digest),
                                             .size = begun.found.model.size},
                                    .blobs = &parts_.blobs}},
                         .options = {}};
  CO_TRY(const Published published,
         co_await parts_.publisher.publish(std::move(request), [](auto, auto) {}));
  std::optional<Judged> judged;
  if (trained.serve) {
    CO_TRY(judged, co_await judge(trained, begun.found, published));
  }
  co_return co_await introduce(trained, begun.found, published, std::move(judged));
}

// What a version that comes now is held against; 0: nothing.
VersionNumber Registrar::champion_of(const FunctionTable::Entry& function) const {
  if (!function || function->routing->waiting) return {};
  return parts_.rollouts.champion_of(*function);
}

// Again where another champion has come meanwhile.
Task<Result<Registrar::Judged>> Registrar::judge(const TrainedModel& trained, const Found& found,
                                                 const Published& published) {
  const auto find = [&] { return parts_.catalog.table()->find(trained.job.spec.function); };
  FunctionTable::Entry function = find();
  VersionNumber champion = champion_of(function);
  while (champion.value > 0) {
    auto compared = co_await compare(trained, found, published, function, champion);
    if (!compared && !is_verdict(compared.error()))
      co_return std::unexpected(std::move(compared).error());
    function = find();
    const VersionNumber against = std::exchange(champion, champion_of(function));
    if (against != champion) continue;
    if (!compared) compared = gate::refused("comparison", compared.error().message);
    co_return Judged{.verdict = *std::move(compared), .champion = champion};
  }
  gate::First first = first_of(trained, found.report);
  first.costs = costs_of(published, found.model.size);
  co_return Judged{
      .verdict = gate::judge_first(function ? function->settings->gate : GatePolicy(), first),
      .champion = {}};
}

namespace {

// The champion is m0, the challenger m1.
ScoreJob score_of_both(const RecordOrigin& origin, const Json& report, TrainTask task,
                       const GatePolicy& policy) {
  ScoreJob job{.models = {"m0", "m1"},
               .split = Split::Test,
               .task = task,
               .target = origin.origin.target,
               .positive = origin.positive,
               .group = origin.group,
               .classes = origin.classes};
  job.metric = text_at(report, "metric");
  job.slices = policy.slices;
  return job;
}

}  // namespace

Result<TrainedVersion> Registrar::find_champion(const FunctionEntry& function,
                                                VersionNumber number) const {
  auto champion = find_trained_version(parts_.registry, parts_.blobs, function.name, number);
  if (champion || champion.error().reason != reason::kConflict) return champion;
  return refuse(reason::kConflict, "cannot be compared: " + champion.error().message);
}

// What forbids it is an error. Blocking.
Result<Registrar::Comparison> Registrar::plan_comparison(const TrainedModel& trained,
                                                         const Found& found,
                                                         const FunctionEntry& function,
                                                         VersionNumber champion) const {
  const auto no = [](const std::string& why) {
    return refuse(reason::kConflict, "cannot be compared with the champion: " + why);
  };
  const Json own = training_record({.trained = trained,
                                    .report = found.report,
                                    .data = found.data,
                                    .model = found.model.digest,
                                    .model_size = found.model.size});
  const std::optional<RecordOrigin> origin = origin_of(own);
  CHECK(origin.has_value());  // of this node's own making
  Comparison comparison{
      .champion = {champion, TRY(find_champion(function, champion))},
      .score = {},
      .metric = {},
      .data = {.dataset = found.data.dataset.name, .snapshot = found.data.snapshot.number}};
  const RecordOrigin& before = comparison.champion.version.origin;
  if (TRY(gate::comparable(before.origin, origin->origin)))
    return no("it learned from rows that are test rows of the challenger's older split by time");
  if (before.classes != origin->classes || before.positive != origin->positive)
    return no("the two tell other classes apart");
  const std::string metric = text_at(found.report, "metric");
  const auto known = validation::parse_metric(metric);
  if (!known) return no(fmt::format("no test compares two models by {}", metric));
  comparison.metric = *known;
  comparison.score = score_of_both(*origin, found.report, found.task, function.settings->gate);
  return comparison;
}

// Both models over the same rows, in one scoring.
Task<Result<JobRecord>> Registrar::score_both(const TrainedModel& trained, const Found& found,
                                              const Comparison& comparison) {
  Json detail = Json::parse(to_json(comparison.score));
  detail["data"] = {{"dataset", comparison.data.dataset}, {"snapshot", comparison.data.snapshot}};
  JobSubmission job{.id = id_of_part(trained.job.spec.id,
                                     fmt::format("gate {}", comparison.champion.number.value)),
                    .function = trained.job.spec.function,
                    .version = 0,
                    .kind = JobKind::Score,
                    .detail = detail.dump(),
                    .caller = trained.job.spec.caller,
                    .memory = trained.trial.spec.memory,
                    .cpus = trained.trial.spec.cpus,
                    .submitted = trained.job.spec.submitted,
                    .expires = trained.job.spec.expires,
                    .keep = trained.job.spec.keep,
                    .parent = trained.job.spec.id};
  const TrainedVersion& champion = comparison.champion.version;
  Pin pin = parts_.jobs.pin();
  CO_TRY_STATUS(co_await parts_.pool.run([&]() -> Status {
    const Pin kept = parts_.pins.hold({champion.model});
    pin.add(champion.model);
    pin.add(found.model.digest);
    parts_.jobs.watch(champion.model);
    TRY(parts_.job_blobs.adopt(champion.model, parts_.blobs));
    return {};
  }));
  std::vector<JobFile> inputs{
      {.role = FileRole::Input, .name = "m0.onnx", .digest = champion.model, .size = champion.size},
      {.role = FileRole::Input,
       .name = "m1.onnx",
       .digest = found.model.digest,
       .size = found.model.size}};
  CO_TRY(JobRecord scored, co_await parts_.score(std::move(job), std::move(inputs)));
  if (scored.state == JobState::Done) co_return scored;
  co_return refuse(
      reason::kConflict,
      fmt::format("cannot be compared with the champion: the scoring of both is {}: {}",
                  to_string(scored.state), scored.message));
}

// Blocking.
Result<validation::Predictions> Registrar::predictions_of(const std::vector<JobFile>& files,
                                                          std::string_view model,
                                                          const ScoreJob& score) const {
  const std::string_view output = is_classification(score.task) ? "probabilities.npy" : "value.npy";
  const JobFile* truth = file_named(files, "truth.npy");
  const JobFile* said = file_named(files, fmt::format("{}/{}", model, output));
  if (truth == nullptr || said == nullptr)
    return refuse(reason::kBadReply, "the scoring left no predictions");
  const BlobFile truth_file = TRY(parts_.job_blobs.file(truth->digest));
  const BlobFile output_file = TRY(parts_.job_blobs.file(said->digest));
  return read_predictions(score.task, score.classes.size(),
                          {.truth = truth_file.path, .output = output_file.path});
}

// As the champion's scores list them: both were asked about the same rows. Blocking.
Result<std::vector<gate::SliceMatch>> Registrar::slices_of(const std::vector<JobFile>& files,
                                                           const ScoreResult& result,
                                                           const ScoreJob& score,
                                                           std::uint64_t rows_scored) const {
  // What a jail says of itself is held against what it left.
  if (result.rows != rows_scored)
    return refuse(reason::kBadReply, fmt::format("the scoring speaks of {} rows and left {}",
                                                 result.rows, rows_scored));
  std::vector<gate::SliceMatch> slices;
  for (std::size_t i = 0; i < score.slices.size(); ++i) {
    std::vector<std::string> values;
    for (const SliceScore& one : result.models.at("m0").slices)
      if (one.column == score.slices[i]) values.push_back(one.value);
    const JobFile* file = file_named(files, fmt::format("slices/{}.npy", i));
    if (file == nullptr) return refuse(reason::kBadReply, "the scoring left no slices");
    const BlobFile blob = TRY(parts_.job_blobs.file(file->digest));
    auto rows = TRY(read_slices(blob.path, values.size(), result.rows));
    for (std::size_t value = 0; value < values.size(); ++value)
      slices.push_back({.column = score.slices[i],
                        .value = std::move(values[value]),
                        .rows = std::move(rows[value])});
  }
  return slices;
}

Task<Result<gate::Verdict>> Registrar::compare(const TrainedModel& trained, const Found& found,
                                               const Published& published,
                                               FunctionTable::Entry function,
                                               VersionNumber champion) {
  CO_TRY(const Comparison comparison, co_await parts_.pool.run([&] {
    return plan_comparison(trained, found, *function, champion);
  }));
  CO_TRY(const JobRecord scored, co_await score_both(trained, found, comparison));
  co_return co_await parts_.pool.run([&]() -> Result<gate::Verdict> {
    const ScoreResult result = TRY(parse_score_result(scored.result, comparison.score));
    const std::vector<JobFile> files = TRY(parts_.jobs.files(scored.spec.id));
    auto champion_said = TRY(predictions_of(files, "m0", comparison.score));
    auto slices =
        TRY(slices_of(files, result, comparison.score, validation::rows_of(champion_said)));
    const TrainedVersion& champion = comparison.champion.version;
    const gate::Match match{.metric = comparison.metric,
                            .champion = std::move(champion_said),
                            .challenger = TRY(predictions_of(files, "m1", comparison.score)),
                            .slices = std::move(slices),
                            .champion_costs = {.run = champion.run, .size = Bytes{champion.size}},
                            .challenger_costs = costs_of(published, found.model.size)};
    gate::Verdict judged = gate::judge(function->settings->gate, match);
    for (gate::Check& check : judged.checks)
      if (check.name == "improvement") check.numbers["against"] = comparison.champion.number.value;
    return judged;
  });
}

Task<Result<Registered>> Registrar::introduce(const TrainedModel& trained, const Found& found,
                                              const Published& published,
                                              std::optional<Judged> judged) {
  CO_TRY(const FunctionName name, FunctionName::parse(trained.job.spec.function));
  const FunctionTable::Entry before = parts_.catalog.table()->find(name.str());
  Json gate = judged ? gate::to_json_value(judged->verdict) : nobody_asked();
  const Json record = training_record({.trained = trained,
                                       .report = found.report,
                                       .data = found.data,
                                       .model = found.model.digest,
                                       .model_size = found.model.size,
                                       .software = published.report.runtime_version,
                                       .parent = judged ? judged->champion : champion_of(before),
                                       .now = parts_.clock.wall_now(),
                                       .gate = gate});
  const std::string text = record.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kMaxTrainingRecord)
    co_return refuse(reason::kTooLarge, "the training's record is too long");
  const Digest digest = sha256(text);
  const Pin pin = parts_.pins.hold({digest});
  CO_TRY_STATUS(co_await parts_.pool.run([&]() -> Status {
    const auto writer = TRY(parts_.blobs.create());
    TRY(writer->append(std::as_bytes(std::span(text))));
    const BlobInfo blob = TRY(writer->commit());
    return own(project_of(name.str()), blob);
  }));
  Deployment deployment{
      .function = name,
      .manifest = published.manifest,
      .report = measured_json(published),
      .traffic = {.percent = 0, .first = DeployTraffic::First::Waits},
      .training = VersionTraining{
          .record = digest,
          .size = text.size(),
          .job = trained.job.spec.id,
          .data = {{.dataset = qualified_name(project_of(name.str()), found.data.dataset.name),
                    .snapshot = found.data.snapshot.number}}}};
  CO_TRY(const TrafficSwitch::Introduced made,
         co_await parts_.traffic.introduce(std::move(deployment), trained.author));
  LOG(info, "trained version registered", {"function", name.str()}, {"version", made.number.value},
      {"job", trained.job.spec.id}, {"gate", text_at(gate, "why")});
  Json line = gate;
  line["version"] = made.number.value;
  CO_TRY_STATUS(co_await parts_.pool.run(
      [&] { return parts_.registry.note(name, "gate", line.dump(), trained.author); }));
  Json rollout = not_served();
  if (judged && judged->verdict.passed) {
    CO_TRY(rollout, co_await serve(name, made.number, *judged, trained.author));
  }
  co_return Registered{
      .version = made.number, .gate = std::move(gate), .rollout = std::move(rollout)};
}

// What was served once, whatever became of it, is not served again. What is under way of an older
// version gives way: this one was found good beside the same champion.
Task<Result<Json>> Registrar::serve(FunctionName name, VersionNumber version, const Judged& judged,
                                    Author author) {
  const FunctionTable::Entry function = parts_.catalog.table()->find(name.str());
  if (!function || (function->current == version && !function->routing->waiting))
    co_return Json{{"state", "promoted"}};
  author.why = "gate: " + judged.verdict.why;
  if (function->routing->waiting) {
    const auto moved = co_await parts_.traffic.point(name, version, author, function);
    if (!moved) co_return std::unexpected(moved.error());
    co_return Json{{"state", "promoted"}};
  }
  CO_TRY(const std::vector<Change> changes, co_await parts_.pool.run([&] {
    return parts_.registry.history(name, kRolloutsSeen, "rollout");
  }));
  for (const Change& change : changes)
    if (count_at(object_in(change.detail), "version") == version.value)
      co_return Json{{"state", "started"}};
  Status started;
  if (auto plan = rollout::parse_plan(function->settings->rollout)) {
    started = co_await parts_.rollouts.replace(name, judged.champion, version, *plan, author);
  } else {
    started = std::unexpected(plan.error());
  }
  if (started) co_return Json{{"state", "started"}};
  if (!is_verdict(started.error())) co_return std::unexpected(started.error());
  const Json line{
      {"version", version.value}, {"what", "not_started"}, {"why", started.error().message}};
  CO_TRY_STATUS(co_await parts_.pool.run(
      [&] { return parts_.registry.note(name, "rollout", line.dump(), author); }));
  co_return Json{{"state", "not_started"}, {"why", started.error().message}};
}

}  // namespace mayfly
