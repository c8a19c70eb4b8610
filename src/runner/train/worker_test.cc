#include "runner/train/worker.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "base/testing/fake_clock.h"
#include "core/json_reader.h"
#include "core/reason.h"
#include "core/train_reason.h"
#include "runner/report/run_job.h"
#include "runner/train/testing/runtime.h"
#include "runner/train/testing/snapshot.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

// The server's side: keeps checkpoints, remembers what it was told.
class KeepingServer {
 public:
  KeepingServer(int socket, Path work) : socket_(socket), work_(std::move(work)) {}

  std::map<std::string, std::vector<double>> metrics;
  std::vector<std::string> progress;
  std::size_t kept = 0;
  std::size_t stop_after = 0;  // checkpoints; 0: never
  std::string first;           // said before anything else

  void serve() {
    if (!first.empty()) send(first);
    while (true) {
      std::array<char, 16 * 1024> text;
      const ssize_t got = ::recv(socket_, text.data(), text.size(), 0);
      if (got <= 0) return;
      const auto message = parse_run_message({text.data(), static_cast<std::size_t>(got)});
      REQUIRE_MESSAGE(message.has_value(), message.error().message);
      if (const auto* metric = std::get_if<RunMetric>(&*message)) {
        metrics[metric->name].push_back(metric->value);
      } else if (const auto* said = std::get_if<RunProgress>(&*message)) {
        progress.push_back(said->text);
      } else {
        keep(std::get<RunCheckpoint>(*message).folder);
      }
    }
  }

 private:
  void keep(const std::string& folder) {
    std::filesystem::remove_all(work_ / "kept");
    std::filesystem::rename(work_ / folder, work_ / "kept");
    ++kept;
    send(R"({"kept": true})");
    if (kept == stop_after) send(R"({"stop": true})");
  }
  void send(std::string_view text) { REQUIRE(::send(socket_, text.data(), text.size(), 0) > 0); }

  int socket_;
  Path work_;
};

// Time passes whenever somebody looks.
class TickingClock final : public Clock {
 public:
  TimePoint now() const override {
    clock_.advance(tick);
    return clock_.now();
  }
  WallTime wall_now() const override { return clock_.wall_now(); }
  Duration tick{0};

 private:
  mutable FakeClock clock_;
};

// One slice of a training after another, in folders of their own.
struct TrainRun {
  TempDir dir = *TempDir::create();
  Path source = dir.path() / "source";
  Path work = dir.path() / "work";
  TickingClock clock;
  KeepingServer told{-1, {}};
  std::uint32_t slices = 0;
  std::string first;  // what a slice is told at once

  TrainEnd slice(const TrainJob& job, std::size_t stop_after = 0) {
    ++slices;
    Path kept = dir.path() / "restored";
    std::filesystem::remove_all(kept);
    if (job.restored) std::filesystem::rename(work / "kept", kept);
    std::filesystem::remove_all(work);
    REQUIRE(make_directories(work).has_value());
    if (job.restored) std::filesystem::rename(kept, work / "restored");
    SocketPair pair = *make_seqpacket_pair();
    told = KeepingServer(pair.ours.get(), work);
    told.stop_after = stop_after;
    told.first = first;
    std::thread server([this] { told.serve(); });
    const Status done =
        run_training(test_runtime(), pair.theirs.get(), job,
                     {.source = source, .work = work, .runtime = train_runtime()}, clock);
    pair.theirs.reset();
    server.join();
    REQUIRE_MESSAGE(done.has_value(), done.error().message);
    return *parse_train_end(*read_file(work / "end.json"));
  }

  Json finished(const TrainJob& job) {
    const TrainEnd end = slice(job);
    REQUIRE_MESSAGE(end.how == TrainEnd::How::Finished, end.refused.message);
    return *parse_json(end.result, "result");
  }
  Json report() const { return *parse_json(*read_file(work / "output" / "report.json"), "report"); }
  std::string model() const { return *read_file(work / "output" / "model.onnx", 1 << 30); }
};

double metric_of(const Json& result, const char* name) {
  return result.at("metrics").at(name).at("value").get<double>();
}

std::vector<std::string> features() { return {"amount", "count", "day", "colour", "words"}; }

TrainJob boosted(TrainTask task, std::string target) {
  return {.task = task,
          .target = std::move(target),
          .columns = features(),
          .params = {{"rounds", 40}, {"subsample", 0.7}, {"colsample_bytree", 0.8}},
          .seed = 7,
          .threads = 2,
          .checkpoint_every = std::chrono::hours(1)};
}

TEST_CASE("a training leaves a model, predictions and a report") {
  TrainRun run;
  every_type(3000).split(run.source, 4);
  const Json result = run.finished(boosted(TrainTask::Binary, "outcome"));
  CHECK(metric_of(result, "auc") > 0.9);
  CHECK(result.at("metric") == "auc");
  CHECK(result.at("metrics").at("auc").at("low") < result.at("metrics").at("auc").at("value"));
  const Json report = run.report();
  CHECK(report.at("classes") == Json{"no", "yes"});
  CHECK(report.at("parity").at("label_mismatches") == 0);
  CHECK(report.at("parity").at("rows").get<int>() >= 1000);
  CHECK(report.at("parity").at("from").at("missing").get<int>() >= 5);
  CHECK(report.at("importance").at(0).at("feature").is_string());
  const auto predicted = NpyColumn::open(run.work / "output" / "probabilities.npy");
  REQUIRE(predicted.has_value());
  CHECK(predicted->rows() == report.at("rows").at("valid"));
  CHECK(NpyColumn::open(run.work / "output" / "row.npy")->rows() == predicted->rows());
  CHECK(run.told.metrics.at("auc").size() == 40);
  CHECK(run.model().size() > 1000);
}

TEST_CASE("a training that was stopped and goes on equals one that was not, bit for bit") {
  const auto check_equal = [](const TrainJob& job, const Snapshot& snapshot) {
    TrainRun whole;
    snapshot.split(whole.source, 4);
    const Json expected = whole.finished(job);
    TrainRun cut;
    snapshot.split(cut.source, 4);
    TrainJob slice = job;
    cut.clock.tick = std::chrono::seconds(1);
    slice.slice = std::chrono::seconds(20);
    TrainEnd end = cut.slice(slice);
    REQUIRE(end.how == TrainEnd::How::Stopped);
    slice.restored = true;
    end = cut.slice(slice);
    REQUIRE(end.how == TrainEnd::How::Stopped);
    slice.slice = Duration(0);
    end = cut.slice(slice);
    REQUIRE_MESSAGE(end.how == TrainEnd::How::Finished, end.refused.message);
    CHECK(*parse_json(end.result, "result") == expected);
    CHECK(cut.model() == whole.model());
    CHECK(cut.report().at("history") == whole.report().at("history"));
  };
  const Snapshot snapshot = every_type(2000);
  SUBCASE("two classes") { check_equal(boosted(TrainTask::Binary, "outcome"), snapshot); }
  SUBCASE("many classes") {
    TrainJob job = boosted(TrainTask::Multiclass, "class");
    job.columns.clear();
    check_equal(job, load_sklearn("wine_data.csv"));
  }
  SUBCASE("values") { check_equal(boosted(TrainTask::Regression, "price"), snapshot); }
  SUBCASE("ranks") {
    TrainJob job = boosted(TrainTask::Ranking, "count");
    job.group = "shelf";
    job.columns = {"amount", "day", "price"};
    check_equal(job, snapshot);
  }
  SUBCASE("clusters") {
    check_equal({.trainer = TrainerKind::Kmeans,
                 .task = TrainTask::Clustering,
                 .columns = features(),
                 .params = {{"clusters", 6}, {"iterations", 5}, {"starts", 8}},
                 .seed = 3,
                 .threads = 2,
                 .checkpoint_every = std::chrono::hours(1)},
                snapshot);
  }
}

TEST_CASE("a training that is told to stop ends with a checkpoint, and knows what it has done") {
  TrainRun run;
  every_type(2000).split(run.source, 4);
  TrainJob job{.trainer = TrainerKind::Kmeans,
               .task = TrainTask::Clustering,
               .columns = features(),
               .params = {{"clusters", 6}, {"iterations", 100}, {"starts", 200}},
               .checkpoint_every = Duration(0)};
  REQUIRE(run.slice(job, 3).how == TrainEnd::How::Stopped);
  CHECK(run.told.kept >= 3);
  job.restored = true;
  CHECK(run.slice(job, 1).how == TrainEnd::How::Stopped);
}

TEST_CASE("a slice whose time is over works for as long as it took to begin") {
  TrainRun run;
  every_type(2000).split(run.source, 4);
  const auto rounds_of = [&](const TrainJob& job) {
    REQUIRE(run.slice(job).how == TrainEnd::How::Stopped);
    const std::string state = *read_file(run.work / "kept" / "state.json");
    return parse_json(state, "state")->at("rounds").get<int>();
  };
  TrainJob job = boosted(TrainTask::Binary, "outcome");
  run.clock.tick = std::chrono::seconds(1);
  run.first = R"({"stop": true})";
  CHECK(rounds_of(job) == 1);
  run.first = R"({"due": true})";
  const int rounds = rounds_of(job);
  CHECK(rounds > 1);
  CHECK(rounds < 10);
  job.restored = true;
  CHECK(rounds_of(job) > rounds + 1);
}

// Adjusted for chance (Hubert & Arabie 1985): 1 where two groupings agree.
double rand_index(const std::vector<std::int64_t>& a, const std::vector<std::string>& b) {
  std::map<std::pair<std::int64_t, std::string>, double> both;
  std::map<std::int64_t, double> of_a;
  std::map<std::string, double> of_b;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ++both[{a[i], b[i]}];
    ++of_a[a[i]];
    ++of_b[b[i]];
  }
  const auto pairs = [](const auto& counts) {
    double sum = 0;
    for (const auto& [key, n] : counts) sum += n * (n - 1) / 2;
    return sum;
  };
  const auto rows = static_cast<double>(a.size());
  const double expected = pairs(of_a) * pairs(of_b) / (rows * (rows - 1) / 2);
  return (pairs(both) - expected) / ((pairs(of_a) + pairs(of_b)) / 2 - expected);
}

TEST_CASE("breast cancer is told from what is none, by trees and by a line") {
  const Snapshot snapshot = load_sklearn("breast_cancer.csv");
  for (const TrainerKind trainer : {TrainerKind::Xgboost, TrainerKind::Linear}) {
    CAPTURE(to_string(trainer));
    TrainRun run;
    snapshot.split(run.source, 4);
    const Json result = run.finished({.trainer = trainer, .target = "class", .threads = 2});
    CHECK(metric_of(result, "accuracy") >= 0.95);
    CHECK(metric_of(result, "auc") >= 0.98);
  }
}

TEST_CASE("digits are read, by trees and by lines") {
  const Snapshot snapshot = load_sklearn("digits.csv.gz");
  for (const TrainerKind trainer : {TrainerKind::Xgboost, TrainerKind::Linear}) {
    CAPTURE(to_string(trainer));
    TrainRun run;
    snapshot.split(run.source, 4);
    TrainJob job{.trainer = trainer,
                 .task = TrainTask::Multiclass,
                 .target = "class",
                 .metric = "accuracy",
                 .threads = 2};
    if (trainer == TrainerKind::Xgboost) job.params = {{"rounds", 100}};
    CHECK(metric_of(run.finished(job), "accuracy") >= 0.94);
  }
}

TEST_CASE("wines fall into their three kinds without being told them") {
  const Snapshot snapshot = load_sklearn("wine_data.csv");
  TrainRun run;
  const auto rows = row_numbers(0, static_cast<std::uint32_t>(snapshot.rows()));
  snapshot.write(run.source, 0, "train", rows);
  snapshot.write(run.source, 0, "valid", rows);
  TrainJob job{.trainer = TrainerKind::Kmeans,
               .task = TrainTask::Clustering,
               .params = {{"clusters", 3}},
               .threads = 2};
  for (int i = 0; i < 13; ++i) job.columns.push_back(fmt::format("x{}", i));
  run.finished(job);
  const auto clusters = *NpyColumn::open(run.work / "output" / "cluster.npy");
  const auto given = clusters.as<std::int64_t>();
  CHECK(rand_index({given.begin(), given.end()},
                   std::get<std::vector<std::string>>(snapshot.columns.back().values)) >= 0.85);
}

TEST_CASE("values and ranks are learned, and their graphs agree with their trainers") {
  const Snapshot snapshot = every_type(3000);
  for (const TrainerKind trainer : {TrainerKind::Xgboost, TrainerKind::Linear}) {
    CAPTURE(to_string(trainer));
    TrainRun run;
    snapshot.split(run.source, 4);
    const Json result = run.finished({.trainer = trainer,
                                      .task = TrainTask::Regression,
                                      .target = "price",
                                      .columns = features(),
                                      .threads = 2});
    CHECK(metric_of(result, "r2") > (trainer == TrainerKind::Xgboost ? 0.9 : 0.75));
  }
  TrainRun run;
  snapshot.split(run.source, 4);
  TrainJob job = boosted(TrainTask::Ranking, "count");
  job.group = "shelf";
  job.columns = {"amount", "price"};
  CHECK(metric_of(run.finished(job), "ndcg") > 0.5);
}

TEST_CASE("a training that nothing improves any more ends early, with its best round") {
  TrainRun run;
  every_type(2000).split(run.source, 4);
  TrainJob job = boosted(TrainTask::Binary, "outcome");
  job.metric = "log_loss";
  job.params = {{"rounds", 2000}, {"eta", 0.5}, {"early_stop", 40}};
  const Json result = run.finished(job);
  CHECK(result.at("stopped_early") == true);
  CHECK(result.at("rounds").get<int>() < 600);
  CHECK(result.at("best_round").get<int>() + 40 <= result.at("rounds").get<int>());
}

TEST_CASE("a part of the rounds ends with a checkpoint, from which more go on") {
  const Snapshot snapshot = every_type(2000);
  TrainJob job = boosted(TrainTask::Binary, "outcome");
  job.params["early_stop"] = 0;
  TrainRun whole;
  snapshot.split(whole.source, 4);
  whole.finished(job);
  TrainRun rungs;
  snapshot.split(rungs.source, 4);
  job.rounds = 10;
  job.model = false;
  const Json first = rungs.finished(job);
  CHECK(first.at("rounds") == 10);
  CHECK(rungs.told.kept == 1);
  CHECK_FALSE(std::filesystem::exists(rungs.work / "output" / "model.onnx"));
  job.rounds = 0;
  job.model = true;
  job.restored = true;
  CHECK(rungs.finished(job).at("rounds") == 40);
  CHECK(rungs.model() == whole.model());
}

TEST_CASE("rows that memory has no room for are read from the disk") {
  TrainRun run;
  every_type(20'000).split(run.source, 4);
  TrainJob job = boosted(TrainTask::Binary, "outcome");
  job.memory = mib(1);
  CHECK(metric_of(run.finished(job), "auc") > 0.9);
  job.trainer = TrainerKind::Linear;
  job.params = Json::object();
  const TrainEnd end = run.slice(job);
  CHECK(end.refused.reason == reason::kTooLarge);
  CHECK(end.refused.message.find("xgboost") != std::string::npos);
}

TEST_CASE("what cannot be learned is refused, with what there is instead") {
  TrainRun run;
  Snapshot snapshot = every_type(200);
  snapshot.split(run.source, 4);
  const auto refused = [&](const TrainJob& job) {
    const TrainEnd end = run.slice(job);
    REQUIRE(end.how == TrainEnd::How::Refused);
    CHECK(end.refused.reason == reason::kInvalidInput);
    return end.refused.message;
  };
  const auto says = [](const std::string& message, std::string_view what) {
    CAPTURE(message);
    CHECK(message.find(what) != std::string::npos);
  };
  TrainJob job = boosted(TrainTask::Binary, "outcome");
  job.params = {{"depth", 3}};
  says(refused(job), "no parameter 'depth'. xgboost takes: rounds");
  job.params = {{"eta", 2}};
  says(refused(job), "eta = 2");
  job = boosted(TrainTask::Binary, "nobody");
  says(refused(job), "there are amount, count");
  job = boosted(TrainTask::Binary, "words");
  says(refused(job), "of type text");
  job = boosted(TrainTask::Binary, "colour");
  says(refused(job), "the task is multiclass");
  job = boosted(TrainTask::Regression, "outcome");
  says(refused(job), "no target of regression");
  job = boosted(TrainTask::Clustering, "");
  says(refused(job), "xgboost does no clustering");
  job = boosted(TrainTask::Binary, "outcome");
  job.metric = "rmse";
  says(refused(job), "there are auc");
  job.metric.clear();
  job.columns = {"outcome"};
  says(refused(job), "cannot be learned from");
  job.columns = features();
  job.positive = "maybe";
  says(refused(job), "no positive class 'maybe'");
  job = {.trainer = TrainerKind::Kmeans,
         .task = TrainTask::Clustering,
         .columns = {"amount"},
         .params = {{"clusters", 1000}}};
  says(refused(job), "fewer rows than clusters");
  std::filesystem::remove_all(run.source / "parts" / "0" / "valid");
  says(refused(boosted(TrainTask::Binary, "outcome")), "no validation rows");
}

TEST_CASE("the positive class is the one that was named") {
  TrainRun run;
  every_type(1000).split(run.source, 4);
  TrainJob job = boosted(TrainTask::Binary, "outcome");
  job.positive = "no";
  run.finished(job);
  CHECK(run.report().at("classes") == Json{"yes", "no"});
}

}  // namespace
}  // namespace mayfly
