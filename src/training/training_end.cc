// Of a training what follows its search: what it is compared with, its look at the test split, what
// is said of it, and whose the model becomes.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "core/caller_reason.h"
#include "core/project.h"
#include "core/reason.h"
#include "training/training_run.h"

namespace mayfly {
namespace {

constexpr std::string_view kBaselinePart = "baseline";
constexpr std::string_view kScorePart = "score";
constexpr std::size_t kMaxReport = 64 << 20;
constexpr std::uint32_t kBaselineThreads = 1;

Json parsed_or_null(const std::string& text) {
  const auto json = parse_json(text, "result");
  return json ? *json : Json();
}

Json metrics_of(const JobRecord& trial) {
  const Json result = parsed_or_null(trial.result);
  return result.is_object() ? result.value("metrics", Json()) : Json();
}

// The baselines of a result that came from a jail were checked; what is shown of them stands there.
Json member_of(const std::string& result, const char* key) {
  const Json json = parsed_or_null(result);
  return json.is_object() ? json.value(key, Json::object()) : Json::object();
}

Result<Fd> in_memory(std::string_view text) {
  Fd file(::memfd_create("decisions", MFD_CLOEXEC));
  if (!file) return fail_errno("memfd_create");
  TRY(write_all(file.get(), text));
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return fail_errno("lseek");
  return file;
}

// In the order of the model's probabilities.
Result<std::vector<std::string>> classes_in(const Fd& file) {
  const std::string text = TRY(read_all_fd(file.get(), kMaxReport));
  const Json report = TRY(parse_json(text, "report.json"));
  std::vector<std::string> classes;
  const auto found = report.is_object() ? report.find("classes") : report.end();
  if (!report.is_object() || found == report.end() || !found->is_array())
    return refuse(reason::kInstanceCrashed, "the trial's report names no classes");
  for (const Json& name : *found) {
    if (!name.is_string())
      return refuse(reason::kInstanceCrashed, "the trial's report names no classes");
    classes.push_back(name.get<std::string>());
  }
  return classes;
}

}  // namespace

// A linear model of the same columns. That there is none ends no training.
Task<Result<std::optional<TrainingRun::Part>>> TrainingRun::train_baseline() {
  const bool fits = plan_.rule.metric && plan_.job.trainer != TrainerKind::Linear &&
                    check_task(TrainerKind::Linear, plan_.job.task).has_value();
  if (!plan_.baseline || !fits) co_return std::nullopt;
  phase_ = "a linear model is trained beside it";
  TrainJob job = plan_.job;
  job.trainer = TrainerKind::Linear;
  job.function.clear();
  job.params = Json::object();
  job.threads = kBaselineThreads;
  job.workers = 1;
  PartAsk wanted{.part = std::string(kBaselinePart),
                 .kind = JobKind::Trial,
                 .detail = detail_of(job),
                 .inputs = {},
                 .threads = kBaselineThreads};
  CO_TRY_STATUS(co_await submit(std::move(wanted)));
  auto trained = co_await finish(std::string(kBaselinePart));
  if (trained) co_return *std::move(trained);
  if (interrupted()) co_return std::unexpected(std::move(trained).error());
  no_baseline_ = trained.error().message;
  co_return std::nullopt;
}

Result<ScoreJob> TrainingRun::score_job(const Part& model, bool baseline,
                                        std::uint32_t looks) const {
  ScoreJob job{.models = {"m0"},
               .split = Split::Test,
               .task = plan_.job.task,
               .target = plan_.job.target,
               .positive = plan_.job.positive,
               .group = plan_.job.group,
               .metric = plan_.rule.name,
               .seed = plan_.job.seed,
               .alpha = kAlphaOfGoals / looks};
  if (baseline) job.models.emplace_back("m1");
  if (!is_classification(job.task)) return job;
  const JobFile* report = model.find("report.json");
  if (report == nullptr) return refuse(reason::kInstanceCrashed, "the trial left no report");
  const Fd file = TRY(parts_.engine.store().open_file(report->digest));
  job.classes = TRY(classes_in(file));
  return job;
}

// The one look of this training, counted before anything is shown, and shared by all that asks for
// the same job again.
Task<Result<std::optional<TrainingRun::Scored>>> TrainingRun::look(
    const Part& model, const std::optional<Part>& baseline) {
  if (plan_.rows.test == 0) co_return std::nullopt;
  phase_ = "the test split is looked at";
  const std::string project(project_of(ask_.job.spec.function));
  struct Asked {
    ScoreJob job;
    std::uint32_t looks = 1;
  };
  const JobFile* second = baseline ? baseline->find("model.onnx") : nullptr;
  CO_TRY(const Asked asked, co_await parts_.pool.run([&]() -> Result<Asked> {
    const SnapshotRecord snapshot = TRY(parts_.snapshots.find(project, plan_.data));
    const std::uint32_t looks =
        TRY(parts_.snapshots.count_look(snapshot, id_, parts_.engine.now()));
    return Asked{.job = TRY(score_job(model, second != nullptr, looks)), .looks = looks};
  }));
  Json detail{{"data", to_json_value(plan_.data)}};
  detail.update(Json::parse(to_json(asked.job)));
  PartAsk wanted{.part = std::string(kScorePart),
                 .kind = JobKind::Score,
                 .detail = detail.dump(),
                 .inputs = {},
                 .threads = cpus_of(plan_.job)};
  const auto add = [&](const JobFile* file, std::string name) {
    if (file == nullptr) return;
    wanted.inputs.push_back(*file);
    wanted.inputs.back().role = FileRole::Input;
    wanted.inputs.back().name = std::move(name);
  };
  add(model.find("model.onnx"), "m0.onnx");
  add(second, "m1.onnx");
  CO_TRY_STATUS(co_await submit(std::move(wanted)));
  CO_TRY(Part part, co_await finish(std::string(kScorePart)));
  CO_TRY(ScoreResult result, parse_score_result(part.job.result, asked.job));
  TestLookResult said{
      .said = {}, .rows = result.rows, .looks = asked.looks, .alpha = asked.job.alpha};
  const ScoredMetrics& metrics = result.models.at("m0").metrics;
  if (const auto metric = metrics.find(plan_.rule.name); metric != metrics.end())
    said.said = metric->second;
  co_return Scored{.part = std::move(part), .result = std::move(result), .look = said};
}

Json TrainingRun::result_of(const Verdict& verdict, const Part& model,
                            const std::optional<Scored>& scored, const Conclusion& conclusion,
                            const Json& params) const {
  const TrialEnd& best = *verdict.best;
  Json result{{"outcome", conclusion.outcome}, {"why", conclusion.why}};
  if (plan_.goal)
    result["goal"] = {{"metric", plan_.goal->metric},
                      {"at", plan_.goal->at},
                      {"direction", plan_.goal->higher ? ">=" : "<="}};
  result["best"] = {{"trial", best.work.trial},
                    {"rung", best.work.rung},
                    {"job", model.job.spec.id},
                    {"params", params},
                    {"metrics", metrics_of(model.job)}};
  if (verdict.bound) result["best"]["bound"] = *verdict.bound;
  if (plan_.code) result["code"] = to_json_value(*plan_.code);
  result["trials"] = log_.ends.size();
  result["candidates"] = verdict.candidates;
  result["search"] = verdict.end == SearchEnd::Goal     ? "goal"
                     : verdict.end == SearchEnd::Budget ? log_.stopped
                                                        : "trials";
  if (scored) {
    const Json models = member_of(scored->part.job.result, "models");
    result["test"] = {{"job", scored->part.job.spec.id},
                      {"metrics", models.value("m0", Json::object()).value("metrics", Json())},
                      {"rows", scored->look.rows},
                      {"looks", scored->look.looks},
                      {"alpha", scored->look.alpha}};
  }
  if (conclusion.rows_to_decide) result["rows_to_decide"] = *conclusion.rows_to_decide;
  result["cost"] = {{"amount", cost_},
                    {"cpu_s", std::chrono::duration<double>(cpu_).count()},
                    {"elapsed_s", std::chrono::duration<double>(elapsed()).count()}};
  return result;
}

// Each with what it is worth on the validation rows, the test rows, or both.
Json TrainingRun::describe_baselines(const std::optional<Part>& linear,
                                     const std::optional<Scored>& scored) const {
  Json baselines = Json::object();
  if (scored) {
    const Json said = member_of(scored->part.job.result, "baselines");
    for (const auto& [name, baseline] : said.items())
      if (baseline.is_object()) baselines[name] = {{"test", baseline.value("metrics", Json())}};
  }
  if (linear) {
    Json about{{"job", linear->job.spec.id}, {"valid", metrics_of(linear->job)}};
    if (scored && scored->result.models.contains("m1")) {
      const Json models = member_of(scored->part.job.result, "models");
      about["test"] = models.value("m1", Json::object()).value("metrics", Json());
    }
    baselines["linear"] = std::move(about);
  } else if (!no_baseline_.empty()) {
    baselines["linear"] = {{"error", no_baseline_}};
  }
  return baselines;
}

Task<Result<Json>> TrainingRun::enroll(const Part& model, const std::optional<Scored>& scored,
                                       Json result) {
  if (!parts_.enroll) {
    result["registered"] = false;
    co_return result;
  }
  phase_ = "it becomes a version";
  say();
  TrainedModel trained{
      .job = ask_.job,
      .trial = model.job,
      .score = scored ? scored->part.job : JobRecord{},
      .serve = plan_.deploy,
      .author = {.who = ask_.job.spec.caller, .why = fmt::format("training {}", id_)}};
  trained.job.result = result.dump(-1, ' ', false, Json::error_handler_t::replace);
  auto registered = co_await parts_.enroll(std::move(trained));
  if (!registered && interrupted()) co_return interruption();
  result["registered"] = registered.has_value();
  if (!registered) {
    result["registration"] = {{"reason", registered.error().reason},
                              {"error", registered.error().message}};
    co_return result;
  }
  result["version"] = registered->version.value;
  if (!registered->gate.is_null()) result["gate"] = registered->gate;
  if (!registered->rollout.is_null()) result["rollout"] = registered->rollout;
  co_return result;
}

// The best one stays with its training, whatever becomes of it.
Result<std::vector<JobFile>> TrainingRun::result_files(const Part& model, Pin& pin) const {
  const Fd file = TRY(in_memory(decisions_of(plan_, log_)));
  std::vector<JobFile> files;
  files.push_back(
      TRY(parts_.engine.store().put(FileRole::Result, "decisions.jsonl", file.get(), pin)));
  for (const char* name : {"model.onnx", "report.json"}) {
    if (const JobFile* made = model.find(name)) files.push_back(*made);
  }
  return files;
}

}  // namespace mayfly
