#include "training/training_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include "async/sleep.h"
#include "core/caller_reason.h"
#include "core/project.h"
#include "core/reason.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMostParts = 10'000;
constexpr std::string_view kModelPart = "model";

double figure_of(const Json& metric, const char* key) {
  const auto found = metric.is_object() ? metric.find(key) : metric.end();
  if (!metric.is_object() || found == metric.end() || !found->is_number())
    return std::numeric_limits<double>::quiet_NaN();
  return found->get<double>();
}

validation::Interval said_of(const std::string& result, const std::string& metric) {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  const auto json = parse_json(result, "result");
  if (!json || !json->is_object()) return {kNaN, kNaN, kNaN};
  const auto metrics = json->find("metrics");
  if (metrics == json->end() || !metrics->is_object()) return {kNaN, kNaN, kNaN};
  const auto found = metrics->find(metric);
  if (found == metrics->end()) return {kNaN, kNaN, kNaN};
  return {figure_of(*found, "value"), figure_of(*found, "low"), figure_of(*found, "high")};
}

// Of a trial that goes on, by the learning curve that its result has.
std::optional<double> heading_of(const std::string& result, const TrainPlan& plan,
                                 std::uint32_t rung) {
  if (rung + 1 >= plan.halving.resources.size()) return std::nullopt;
  const auto json = parse_json(result, "result");
  if (!json || !json->is_object() || json->value("stopped_early", Json()) == true)
    return std::nullopt;
  const Json curve = json->value("curve", Json());
  if (!curve.is_array() || curve.size() != 3) return std::nullopt;
  const double sign = plan.rule.higher_is_better ? -1 : 1;
  std::array<double, 3> losses{};
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (!curve[i].is_number()) return std::nullopt;
    losses[i] = sign * curve[i].get<double>();
  }
  return sign *
         search::outlook(losses, plan.halving.resources[rung], plan.halving.resources.back());
}

}  // namespace

Task<SliceOutcome> TrainingSlices::run(SliceAsk ask) {
  TrainingRun training(parts_, ask);
  co_return co_await training.run();
}

TrainingRun::TrainingRun(const TrainingSlices::Parts& parts, SliceAsk& ask)
    : parts_(parts),
      ask_(ask),
      id_(ask.job.spec.id),
      began_(parts.loop.clock().now()),
      killed_(ask.kill, [this] { wake_.cancel(); }),
      stopped_(ask.stop, [this] { wake_.cancel(); }) {}

std::unexpected<Error> TrainingRun::interruption() const {
  return refuse(reason::kDraining, "the training was interrupted");
}

Duration TrainingRun::elapsed() const { return before_ + (parts_.loop.clock().now() - began_); }

Task<SliceOutcome> TrainingRun::run() {
  SliceOutcome outcome{.result = JobStore::SliceResult{}, .pin = parts_.engine.store().pin()};
  outcome.result = co_await work(outcome.pin);
  if (outcome.result) co_return outcome;
  if (ask_.stop.cancelled() && !ask_.kill.cancelled()) {
    log_.elapsed = elapsed();
    JobStore::SliceResult paused;
    paused.checkpoint = to_json(log_);
    outcome.result = std::move(paused);
  } else {
    outcome.put_back = interrupted();
  }
  co_return outcome;
}

Task<Result<JobStore::SliceResult>> TrainingRun::work(Pin& pin) {
  CO_TRY(plan_, parse_train_plan(ask_.job.spec.detail));
  if (!ask_.job.checkpoint.empty()) {
    CO_TRY(log_, parse_search_log(ask_.job.checkpoint));
    before_ = log_.elapsed;
  }
  CO_TRY_STATUS(co_await bring_trainer());
  CO_TRY(const Verdict verdict, co_await search());
  if (!verdict.best) {
    if (log_.ends.empty())
      co_return refuse(reason::kDeadlineExceeded,
                       "the budget was used up before any trial had ended");
    const TrialEnd& first = log_.ends.front();
    const std::string_view slug =
        find_reason(first.reason) != nullptr ? find_reason(first.reason)->slug : reason::kInternal;
    co_return refuse(slug, plan_.searches()
                               ? fmt::format("every trial failed; the first: {}", first.error)
                               : first.error);
  }
  CO_TRY(const std::optional<Part> linear, co_await train_baseline());
  CO_TRY(const Part model, co_await model_of(*verdict.best));
  CO_TRY(const std::optional<Scored> scored, co_await look(model, linear));
  const Conclusion conclusion =
      conclude(plan_, scored ? std::optional(scored->look) : std::nullopt);
  CO_TRY_STATUS(co_await refresh());
  const Json params = co_await params_of(verdict.best->work.trial);
  Json result = result_of(verdict, model, scored, conclusion, params);
  result["baselines"] = describe_baselines(linear, scored);
  if (conclusion.registers()) {
    CO_TRY(result, co_await enroll(model, scored, std::move(result)));
  }
  JobStore::SliceResult done;
  done.finished = true;
  done.result = result.dump(-1, ' ', false, Json::error_handler_t::replace);
  CO_TRY(done.files, co_await parts_.pool.run([&] { return result_files(model, pin); }));
  phase_ = result.value("outcome", "");
  say();
  co_return done;
}

// What Mayfly brings along must be a version before a trial can run it; which one is written down.
Task<Status> TrainingRun::bring_trainer() {
  if (plan_.code || !is_function(plan_.job.trainer)) co_return Status{};
  if (!log_.code) {
    const auto told = [this](std::string_view step) {
      phase_ = fmt::format("{} is published first: {}", plan_.job.function, step);
      say();
    };
    told("its packages may have to be fetched");
    TrainingSlices::Parts::BringAsk wanted{
        .project = std::string(project_of(ask_.job.spec.function)),
        .who = ask_.job.spec.caller,
        .trainer = plan_.job.trainer,
        .told = told,
        .cancel = wake_.token()};
    auto brought = co_await parts_.bring(std::move(wanted));
    if (interrupted()) co_return interruption();
    if (!brought) co_return std::unexpected(std::move(brought).error());
    phase_.clear();
    log_.code = *std::move(brought);
    log_.elapsed = elapsed();
    CO_TRY_STATUS(co_await ask_.keep(to_json(log_), {}));
  }
  plan_.code = log_.code;
  plan_.job.function = log_.code->function;
  co_return Status{};
}

// ---- The search ---------------------------------------------------------------------------------

Task<Result<Verdict>> TrainingRun::search() {
  std::vector<search::Outcome> outcomes;
  for (const TrialEnd& end : log_.ends) {
    outcomes.push_back(outcome_of(plan_.rule, end));
    points_.add(end);
  }
  search::Halving live = search::Halving::replay(plan_.halving, outcomes);
  CO_TRY_STATUS(co_await run_rungs(live));
  Verdict verdict = judge(plan_, log_);
  co_return verdict;
}

Task<Status> TrainingRun::run_rungs(search::Halving& live) {
  const std::size_t beside =
      std::max(1U, parts_.engine.options().cpus / std::max(1U, cpus_of(plan_.job)));
  while (true) {
    // Everybody but the control stops when it is decided.
    const bool decided = !log_.stopped.empty() || judge(plan_, log_).end != SearchEnd::NotYet;
    if (decided) {
      CO_TRY_STATUS(co_await drop_all_but_control());
    }
    while (running_.size() < beside) {
      const auto next = decided ? next_of_control(live) : next_of(live);
      if (!next) break;
      CO_TRY_STATUS(co_await begin(*next));
    }
    if (running_.empty()) co_return Status{};
    const std::uint64_t seen = parts_.engine.ends();
    const std::size_t known = log_.ends.size();
    CO_TRY_STATUS(co_await collect(live));
    if (log_.ends.size() == known && !running_.empty()) co_await wait(seen);
    if (interrupted()) co_return interruption();
  }
}

// On a pool: after a restart it may take a second.
Task<Json> TrainingRun::params_of(std::uint32_t trial) {
  co_return co_await parts_.pool.run([&] { return points_.of(trial); });
}

// What may begin now.
std::optional<search::Work> TrainingRun::next_of(search::Halving& live) {
  const auto next = held_ ? held_ : live.next();
  held_.reset();
  if (!next || points_.known(next->trial)) return next;
  held_ = next;
  return std::nullopt;
}

std::optional<search::Work> TrainingRun::next_of_control(search::Halving& live) {
  held_.reset();
  auto next = live.next();
  while (next && next->trial != 0) next = live.next();
  return next;
}

TrainJob TrainingRun::trial_job(const search::Work& work, Json params) const {
  TrainJob job = plan_.job;
  job.params = std::move(params);
  job.rounds = plan_.rounds_of(work.rung);
  job.model = job.rounds == 0;
  return job;
}

std::string TrainingRun::detail_of(const TrainJob& job) const {
  Json detail{{"data", to_json_value(plan_.data)}};
  detail.update(Json::parse(to_json(job)));
  return detail.dump();
}

Task<Status> TrainingRun::begin(search::Work work) {
  Json params = co_await params_of(work.trial);
  PartAsk wanted{.part = part_of(work),
                 .kind = JobKind::Trial,
                 .detail = detail_of(trial_job(work, std::move(params))),
                 .inputs = {},
                 .threads = cpus_of(plan_.job)};
  if (work.rung > 0) {
    // From where the rung below ended.
    const std::string below =
        part_id(id_, part_of(search::Work{.trial = work.trial, .rung = work.rung - 1}));
    CO_TRY(const Part before, co_await part_of_id(below));
    wanted.inputs = before.checkpoint();
  }
  const std::string id = part_id(id_, wanted.part);
  CO_TRY_STATUS(co_await submit(std::move(wanted)));
  running_.emplace(id, work);
  co_return Status{};
}

TrialEnd TrainingRun::end_of(const search::Work& work, const JobRecord& job) const {
  TrialEnd end{.work = work, .job = job.spec.id, .said = {}};
  end.said = said_of(job.state == JobState::Done ? job.result : "", plan_.rule.name);
  if (std::isfinite(end.said.estimate)) {
    end.heading = heading_of(job.result, plan_, work.rung);
    return end;
  }
  end.said.estimate = std::numeric_limits<double>::quiet_NaN();
  if (job.state == JobState::Done) {
    end.reason = std::string(reason::kInvalidInput);
    end.error = fmt::format("{} has no meaning on the validation rows", plan_.rule.name);
  } else {
    end.reason = job.reason;
    end.error = job.message.empty() ? fmt::format("it was {}", to_string(job.state)) : job.message;
  }
  return end;
}

// What is wrong with the data or the wish is wrong with every trial.
Status TrainingRun::check_control(const TrialEnd& end) const {
  if (end.work.trial != 0 || end.reason != reason::kInvalidInput) return {};
  return refuse(reason::kInvalidInput, end.error);
}

// What has ended is written before anything follows from it.
Task<Status> TrainingRun::collect(search::Halving& live) {
  CO_TRY_STATUS(co_await refresh());
  const std::map<std::string, search::Work> before = running_;
  bool changed = false;
  for (const auto& [id, work] : before) {
    CO_TRY(const JobRecord job, co_await parts_.engine.find(id));
    if (!is_over(job.state)) continue;
    running_.erase(id);
    TrialEnd end = end_of(work, job);
    CO_TRY_STATUS(check_control(end));
    live.report(outcome_of(plan_.rule, end));
    points_.add(end);
    log_.ends.push_back(std::move(end));
    changed = true;
  }
  if (log_.stopped.empty() && judge(plan_, log_).end == SearchEnd::NotYet) {
    const TrainBudget& budget = plan_.budget;
    if (budget.time > Duration::zero() && elapsed() >= budget.time) log_.stopped = "time";
    if (budget.cost > 0 && cost_ >= budget.cost) log_.stopped = "cost";
    if (!log_.stopped.empty()) {
      log_.stopped_after = log_.ends.size();
      changed = true;
    }
  }
  say();
  if (!changed) co_return Status{};
  log_.elapsed = elapsed();
  co_return co_await ask_.keep(to_json(log_), {});
}

Task<Status> TrainingRun::drop_all_but_control() {
  const std::map<std::string, search::Work> before = running_;
  for (const auto& [id, work] : before) {
    if (work.trial == 0) continue;
    const auto cancelled = co_await parts_.engine.cancel(id);
    if (!cancelled && cancelled.error().reason != reason::kConflict)
      co_return std::unexpected(cancelled.error());
    running_.erase(id);
  }
  co_return Status{};
}

Task<Status> TrainingRun::refresh() {
  JobStore::ListAsk ask{.project = std::string(project_of(ask_.job.spec.function)),
                        .parent = id_,
                        .limit = kMostParts};
  CO_TRY(const std::vector<JobRecord> parts, co_await parts_.engine.list(std::move(ask)));
  cost_ = 0;
  cpu_ = {};
  begun_ = 0;
  current_.clear();
  for (const JobRecord& part : parts) {
    cost_ += parts_.cost(part);
    cpu_ += part.cpu;
    if (part.state != JobState::Running) continue;
    current_ = part.progress.text;
    if (running_.contains(part.spec.id)) begun_ += std::max(0.0, part.progress.fraction);
  }
  co_return Status{};
}

// Works of a search that nothing stops.
std::size_t TrainingRun::expected() const {
  std::size_t sum = 0;
  std::size_t in_rung = plan_.halving.trials;
  for (std::size_t rung = 0; rung < plan_.halving.resources.size(); ++rung) {
    sum += in_rung;
    in_rung = in_rung / plan_.halving.eta + (plan_.halving.trials > 1 ? 1 : 0);
  }
  return sum;
}

void TrainingRun::say() {
  JobProgress progress;
  const Verdict verdict = judge(plan_, log_);
  double done = (static_cast<double>(log_.ends.size()) + begun_) / static_cast<double>(expected());
  const auto share = [](double part, double whole) { return whole > 0 ? part / whole : 0; };
  done = std::max({done, share(cost_, plan_.budget.cost),
                   share(std::chrono::duration<double>(elapsed()).count(),
                         std::chrono::duration<double>(plan_.budget.time).count())});
  // What follows the search is short, but not nothing.
  progress.fraction = std::clamp(0.95 * done, 0.0, 0.99);
  Json metrics{{"trials", log_.ends.size()},
               {"running", running_.size()},
               {"cost", cost_},
               {"cpu_s", std::chrono::duration<double>(cpu_).count()}};
  std::string trials;
  for (const auto& [id, work] : running_)
    trials += fmt::format("{}{}", trials.empty() ? "" : ", ", work.trial);
  progress.text = !phase_.empty() ? phase_
                  : plan_.searches()
                      ? fmt::format("{} results, trial {} of {} at work", log_.ends.size(),
                                    trials.empty() ? "-" : trials, plan_.halving.trials)
                  : current_.empty() ? "waiting for its turn"
                                     : current_;
  if (verdict.best) {
    metrics["best"] = verdict.best->said.estimate;
    metrics["best_trial"] = verdict.best->work.trial;
    progress.text += fmt::format(", best {} {:.4g}", plan_.rule.name, verdict.best->said.estimate);
  }
  progress.metrics = metrics.dump();
  ask_.on_progress(std::move(progress));
}

// ---- Parts --------------------------------------------------------------------------------------

const JobFile* TrainingRun::Part::find(std::string_view name) const {
  const auto found = std::ranges::find(files, name, &JobFile::name);
  return found == files.end() ? nullptr : &*found;
}

std::vector<JobFile> TrainingRun::Part::checkpoint() const {
  constexpr std::string_view kCheckpoint = "checkpoint/";
  std::vector<JobFile> inputs;
  for (const JobFile& file : files) {
    if (!file.name.starts_with(kCheckpoint)) continue;
    inputs.push_back(file);
    inputs.back().role = FileRole::Checkpoint;
    inputs.back().name.erase(0, kCheckpoint.size());
  }
  return inputs;
}

Task<Status> TrainingRun::submit(PartAsk wanted) {
  const JobSubmission& whole = ask_.job.spec;
  JobSubmission job{.id = part_id(id_, wanted.part),
                    .function = whole.function,
                    .version = 0,
                    .kind = wanted.kind,
                    .detail = std::move(wanted.detail),
                    .caller = whole.caller,
                    .memory = plan_.job.memory,
                    .cpus = wanted.threads,
                    .submitted = parts_.engine.now(),
                    .expires = whole.expires,
                    .keep = whole.keep,
                    .parent = id_};
  const auto there = co_await parts_.engine.find(job.id);
  if (there) co_return Status{};
  if (there.error().reason != reason::kNotFound) co_return std::unexpected(there.error());
  while (true) {
    const auto accepted = co_await parts_.engine.submit(job, wanted.inputs);
    if (accepted) co_return Status{};
    // Others' jobs end sometime.
    if (accepted.error().reason != reason::kQueueFull) co_return std::unexpected(accepted.error());
    if (!co_await sleep_for(parts_.loop, 1s, wake_.token())) co_return interruption();
  }
}

Task<void> TrainingRun::wait(std::uint64_t seen) {
  co_await parts_.engine.next_end(seen, wake_.token());
}

Task<Result<TrainingRun::Part>> TrainingRun::part_of_id(std::string id) {
  CO_TRY(JobRecord job, co_await parts_.engine.find(id));
  CO_TRY(std::vector<JobFile> files, co_await parts_.engine.files(id));
  std::erase_if(files, [](const JobFile& file) { return file.role != FileRole::Result; });
  co_return Part{.job = std::move(job), .files = std::move(files)};
}

Task<Result<TrainingRun::Part>> TrainingRun::finish(std::string part) {
  const std::string id = part_id(id_, part);
  while (true) {
    const std::uint64_t seen = parts_.engine.ends();
    CO_TRY(Part found, co_await part_of_id(id));
    if (found.job.state == JobState::Done) co_return found;
    if (is_over(found.job.state)) {
      const ReasonEntry* why = find_reason(found.job.reason);
      co_return refuse(
          why != nullptr ? why->slug : reason::kConflict,
          fmt::format("{} {}: {}", part, to_string(found.job.state),
                      found.job.message.empty() ? "somebody ended it" : found.job.message));
    }
    if (interrupted()) co_return interruption();
    CO_TRY_STATUS(co_await refresh());
    say();
    co_await wait(seen);
  }
}

// The winner's model, which trials of lower rungs do not make: they go on by no round, and it is
// what was judged.
Task<Result<TrainingRun::Part>> TrainingRun::model_of(const TrialEnd& best) {
  phase_ = "the best one's model is made";
  CO_TRY(Part trial, co_await part_of_id(best.job));
  if (trial.find("model.onnx") != nullptr) co_return trial;
  TrainJob job = trial_job(best.work, co_await params_of(best.work.trial));
  job.model = true;
  PartAsk wanted{.part = std::string(kModelPart),
                 .kind = JobKind::Trial,
                 .detail = detail_of(job),
                 .inputs = trial.checkpoint(),
                 .threads = cpus_of(plan_.job)};
  CO_TRY_STATUS(co_await submit(std::move(wanted)));
  co_return co_await finish(std::string(kModelPart));
}

}  // namespace mayfly
