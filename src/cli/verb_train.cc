// mayfly train: a search for a model, with a goal and a budget.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/job_watch.h"
#include "cli/rollout_watch.h"
#include "cli/train_view.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxTrainFile = 1 << 20;
constexpr std::chrono::milliseconds kWatchEvery(300);

struct TrainFlags {
  std::string name;
  std::string data, target, goal, trainer, function, params, space, metric, task, positive, group,
      time;
  std::string memory, sampler;
  std::vector<std::string> columns, drop;
  std::uint32_t trials = 0, threads = 0, workers = 0;
  double cost = 0;
  std::int64_t seed = -1;
  bool search = false, no_deploy = false, no_baseline = false, detach = false, wait = false;
  bool no_warm_start = false, no_search = false;
  std::string max_age;
  bool watch = false;
};

// JSON, or the file that holds it.
Result<CliJson> json_or_file(const std::string& flag, const std::string& text) {
  const bool file = !text.starts_with('{');
  const std::string path = text.starts_with('@') ? text.substr(1) : text;
  const std::string content = file ? TRY(read_file(path, kMaxTrainFile)) : text;
  CliJson json = CliJson::parse(content, nullptr, false);
  if (json.is_object()) return json;
  return refuse(reason::kBadRequest,
                fmt::format("{} is a JSON object, or a file that holds one: {}", flag, text));
}

CliJson budget_of(const TrainFlags& flags) {
  CliJson budget = CliJson::object();
  if (flags.trials > 0) budget["trials"] = flags.trials;
  if (!flags.time.empty()) budget["time"] = flags.time;
  if (flags.cost > 0) budget["cost"] = flags.cost;
  return budget;
}

Result<CliJson> train_wish(const TrainFlags& flags) {
  CliJson wish{{"data", flags.data}};
  const auto text = [&](const char* key, const std::string& value) {
    if (!value.empty()) wish[key] = value;
  };
  text("target", flags.target);
  text("goal", flags.goal);
  text("trainer", flags.trainer);
  if (!flags.function.empty()) {
    if (flags.trainer.empty()) wish["trainer"] = "function";
    wish["function"] = flags.function;
  }
  text("metric", flags.metric);
  text("task", flags.task);
  text("positive", flags.positive);
  text("group", flags.group);
  text("memory", flags.memory);
  text("sampler", flags.sampler);
  text("max_age", flags.max_age);
  if (!flags.columns.empty()) wish["columns"] = flags.columns;
  if (!flags.drop.empty()) wish["drop"] = flags.drop;
  if (!flags.params.empty()) wish["params"] = TRY(json_or_file("--params", flags.params));
  if (!flags.space.empty()) wish["space"] = TRY(json_or_file("--space", flags.space));
  if (flags.search || flags.no_search) wish["search"] = flags.search;
  if (CliJson budget = budget_of(flags); !budget.empty()) wish["budget"] = std::move(budget);
  if (flags.seed >= 0) wish["seed"] = flags.seed;
  if (flags.threads > 0) wish["threads"] = flags.threads;
  if (flags.workers > 0) wish["workers"] = flags.workers;
  if (flags.no_baseline) wish["baseline"] = false;
  if (flags.no_warm_start) wish["warm_start"] = false;
  if (flags.no_deploy) wish["deploy"] = false;
  return wish;
}

// What runs of it says its metric as it goes on; between trials, how the best has grown.
class LearningCurve {
 public:
  explicit LearningCurve(std::string metric) : metric_(std::move(metric)) {}

  void add(const CliJson& job, const CliJson& parts) {
    const CliJson best = metrics_of(job);
    if (best.contains("best") && best["best"].is_number())
      note(best_, best.value("trials", 0.0), best["best"].get<double>());
    for (const CliJson& part : parts) {
      const CliJson said = metrics_of(part);
      if (!said.contains(metric_) || !said[metric_].is_number()) continue;
      if (part.value("id", "") != of_) trial_.clear();
      of_ = part.value("id", "");
      const CliJson progress = part.value("progress", CliJson::object());
      note(trial_, 100 * progress.value("fraction", 0.0), said[metric_].get<double>());
      break;
    }
  }

  // Above the line that was drawn before.
  void draw(const std::string& line) {
    const bool of_search = best_.size() > 1;
    const std::string text = curve_text(of_search ? best_ : trial_);
    std::string screen;
    if (drawn_ > 0) screen += fmt::format("\x1b[{}A\x1b[J", drawn_);
    if (!text.empty())
      screen +=
          fmt::format("{} by {}\n{}", metric_, of_search ? "results" : "% of the rounds", text);
    screen += line + "\n";
    drawn_ = static_cast<std::size_t>(std::ranges::count(screen, '\n'));
    fmt::print(stderr, "{}", screen);
  }

 private:
  static CliJson metrics_of(const CliJson& job) {
    return job.value("progress", CliJson::object()).value("metrics", CliJson::object());
  }
  static void note(std::vector<CurvePoint>& points, double x, double y) {
    if (!points.empty() && points.back().first == x) {
      points.back().second = y;
    } else {
      points.emplace_back(x, y);
    }
  }

  std::string metric_;
  std::string of_;  // the trial whose curve it is
  std::vector<CurvePoint> best_, trial_;
  std::size_t drawn_ = 0;
};

// The curve of what it became, as its report has it.
void print_history(NodeClient& node, const CliJson& job) {
  std::string text;
  const std::string path = fmt::format("{}/file?name=report.json", job_path(job.value("id", "")));
  const Status fetched = node.fetch(path, [&](std::string_view piece) -> Status {
    text += piece;
    return {};
  });
  const CliJson report = CliJson::parse(text, nullptr, false);
  if (!fetched || !report.is_object() || !report.contains("history")) return;
  std::vector<CurvePoint> points;
  for (const CliJson& point : report["history"])
    if (point.is_array() && point.size() == 2 && point[0].is_number() && point[1].is_number())
      points.emplace_back(point[0].get<double>(), point[1].get<double>());
  const std::string curve = curve_text(points);
  if (!curve.empty())
    fmt::print("{} of the best one by round\n{}\n", report.value("metric", ""), curve);
}

bool is_ended(const CliJson& job) { return job.contains("ended"); }

Result<CliJson> watch(NodeClient& node, const CliJson& accepted) {
  const std::string id = accepted.value("id", "");
  if (::isatty(STDERR_FILENO) == 1) {
    LearningCurve curve(accepted.value("training", CliJson::object()).value("metric", ""));
    while (true) {
      const auto job = node.get(job_path(id));
      if (!job || is_ended(*job)) break;  // who asks again below hears why
      const auto parts = node.get(fmt::format("/api/v1/jobs?parent={}&state=running", id));
      if (parts) curve.add(*job, (*parts)["jobs"]);
      curve.draw(job_line(*job));
      std::this_thread::sleep_for(kWatchEvery);
    }
  }
  return follow_job(node, id);
}

// How its rollout ended, as `rollout`; nothing of a training that made no version.
Status await_rollout(NodeClient& node, const std::string& name, CliJson& job) {
  const CliJson result = job.value("result", CliJson::object());
  if (!result.is_object() || !result.contains("version")) return {};
  CliJson rollout = result.value("rollout", CliJson{{"state", "none"}});
  rollout["version"] = result["version"];
  if (rollout.value("state", "") == "started")
    rollout = TRY(follow_rollout(node, name, result["version"].get<std::uint64_t>()));
  job["rollout"] = std::move(rollout);
  return {};
}

Status train(TrainFlags flags, CliContext& context) {
  TRY(parse_model_ref(flags.name));
  if (flags.detach && (flags.wait || flags.watch))
    return refuse(reason::kBadRequest, "--detach does not wait");
  NodeClient node = context.node();
  std::error_code none;
  if (std::filesystem::exists(flags.data, none))
    flags.data = TRY(put_dataset(flags.name, flags.data, flags.target, node));
  const CliJson wish = TRY(train_wish(flags));
  const CliJson accepted = TRY(node.send("POST", function_path(flags.name) + "/trainings", wish));
  if (!context.json || !flags.detach) fmt::print(stderr, "{}", plan_text(accepted));
  if (flags.detach) {
    context.json ? print_json(accepted) : fmt::print("{}\n", accepted.value("id", ""));
    return {};
  }
  CliJson done =
      TRY(flags.watch ? watch(node, accepted) : follow_job(node, accepted.value("id", "")));
  TRY(await_rollout(node, flags.name, done));
  if (context.json) {
    print_json(done);
  } else {
    if (flags.watch) print_history(node, done);
    fmt::print("{}", training_text(done));
  }
  context.exit = exit_of_training(done);
  if (context.exit == 0) context.exit = exit_of_rollout(done.value("rollout", CliJson::object()));
  return {};
}

}  // namespace

void add_train_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("train", "Train a model for a function, to a goal");
  auto flags = std::make_shared<TrainFlags>();
  verb->add_option("NAME", flags->name, "the function that it is for")->required();
  verb->add_option("--data", flags->data,
                   "a dataset, a snapshot of one (credit@3), or a file, which becomes one")
      ->required();
  verb->add_option("--target", flags->target, "the column to learn; the dataset's own");
  verb->add_option("--goal", flags->goal, "\"auc >= 0.70\": mayfly help metrics lists names");
  auto* search = verb->add_flag("--search", flags->search,
                                "try many configurations; so it is for a --goal without --params");
  verb->add_flag("--no-search", flags->no_search, "train the standard one, or that of --params")
      ->excludes(search);
  verb->add_option("--trials", flags->trials, "of a search: how many configurations; 27");
  verb->add_option("--time", flags->time, "of a search: begin none after it, as in 10m");
  verb->add_option("--cost", flags->cost, "of a search: likewise, in units of the node's prices");
  verb->add_option("--trainer", flags->trainer,
                   "xgboost (default), linear, kmeans, mf; cnn of images");
  verb->add_option("--trainer-function", flags->function,
                   "the train(ctx) of a Python function instead: NAME, or NAME@N");
  verb->add_option("--params", flags->params, "its parameters: JSON or a file");
  verb->add_option("--space", flags->space, "what a search varies: JSON or a file");
  verb->add_option("--sampler", flags->sampler,
                   "of a search: random (default), or tpe: where earlier trials were good");
  verb->add_option("--metric", flags->metric, "what is optimised; the goal's, or the task's own");
  verb->add_option(
      "--task", flags->task,
      "binary, multiclass, regression, ranking, clustering or recommendation; the target's");
  verb->add_option("--positive", flags->positive, "of two classes the one that is looked for");
  verb->add_option(
      "--group", flags->group,
      "ranking: rows with the same value are ranked together; recommendation: the users");
  verb->add_option("--column", flags->columns, "learn from these alone")->allow_extra_args(false);
  verb->add_option("--drop", flags->drop, "never from these")->allow_extra_args(false);
  verb->add_option("--seed", flags->seed, "the same one tries the same");
  verb->add_option("--threads", flags->threads, "of a trial, or of each of its workers");
  verb->add_option("--workers", flags->workers,
                   "processes of a trial that share its rows (xgboost); 1");
  verb->add_option("--memory", flags->memory, "of a trial; 2GiB");
  verb->add_option("--max-age", flags->max_age, "what has not ended by then expires; 8760h");
  verb->add_flag("--no-baseline", flags->no_baseline, "train no linear model beside it");
  verb->add_flag("--no-warm-start", flags->no_warm_start,
                 "of a search: do not begin with what the serving version was trained with");
  verb->add_flag("--no-deploy", flags->no_deploy, "register what reaches the goal, and no more");
  verb->add_flag("--wait", flags->wait, "until it has ended, and its rollout; so it is anyway");
  verb->add_flag("--detach", flags->detach, "do not wait; mayfly jobs says how far it is");
  verb->add_flag("--watch", flags->watch, "draw the learning curve meanwhile");
  verb->callback([flags, &context] { context.outcome = train(*flags, context); });
}

}  // namespace mayfly
