// Whole trainings on the engine of jobs, whose trials and scores the test plays: what is tried,
// what a kill changes, what the end says.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "async/sleep.h"
#include "core/caller_reason.h"
#include "core/invocation.h"
#include "core/reason.h"
#include "store/local_blob_store.h"
#include "training/search_log.h"
#include "training/training_slices.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

// What a trial of these parameters and rounds is worth: the test says so of numbers.
using Worth = std::function<double(std::uint32_t trial, std::uint32_t rung)>;

class TrainRig {
 public:
  TrainRig() {
    std::filesystem::create_directories(folder_.path() / "blobs");
    std::filesystem::create_directories(folder_.path() / "tmp");
    blobs_ = LocalBlobStore::open(folder_.path() / "blobs", folder_.path() / "tmp").value();
    datasets_ = DatasetStore::open(folder_.path() / "datasets.db").value();
    const DatasetRecord made =
        datasets_->ensure({.project = "default", .name = "credit", .key = {.k0 = 1, .k1 = 2}})
            .value();
    DatasetStore::Commit commit;
    commit.snapshot = {.dataset = made.id,
                       .job = "ingest",
                       .rows = {.train = 700, .valid = 100, .test = 200},
                       .report = "{}",
                       .sources = "[]"};
    REQUIRE(datasets_->commit(std::move(commit)).has_value());
    restart();
  }
  ~TrainRig() { loop.run(engine->close()); }

  // As a server that was killed and has begun again.
  void restart() {
    if (engine) loop.run(engine->close());
    trainings_.reset();
    engine.reset();
    store = JobStore::open(folder_.path() / "jobs.db", *blobs_, loop.clock()).value();
    engine = std::make_unique<JobEngine>(
        JobEngine::Parts{
            .loop = loop,
            .store = *store,
            .rng = rng_,
            .run = [this](SliceAsk ask) { return run(std::move(ask)); },
            .bill = [](const JobRecord&, const SliceBill&) -> Task<void> { co_return; },
            .has_memory = [] { return true; },
            .byte_limit = [](std::string_view) { return Bytes{}; }},
        JobEngine::Options{.cpus = cpus, .memory = gib(4), .slice = 1h, .sweep_every = 5ms});
    REQUIRE(engine->recover().has_value());
    trainings_ = std::make_unique<TrainingSlices>(
        TrainingSlices::Parts{.loop = loop,
                              .pool = engine->pool(),
                              .engine = *engine,
                              .snapshots = SnapshotFiles(*datasets_, *blobs_),
                              .cost = [](const JobRecord& job) { return job.slices + 0.25; },
                              .enroll = enroll,
                              .bring = bring});
    engine->start();
  }

  Task<SliceOutcome> run(SliceAsk ask) {
    if (ask.job.spec.kind == JobKind::Train) co_return co_await trainings_->run(std::move(ask));
    // Ends of those beside each other come in whatever order.
    ++began[ask.job.spec.id];
    if (hold) (void)co_await sleep_for(loop, 1h, ask.kill);
    (void)co_await sleep_for(loop, std::chrono::microseconds(rng_.next() % 500), ask.kill);
    if (ask.kill.cancelled()) {
      SliceOutcome killed{.result = refuse(reason::kDraining, "killed")};
      co_return killed;
    }
    if (ask.job.spec.kind == JobKind::Score) co_return score(ask);
    co_return trial(ask);
  }

  SliceOutcome trial(const SliceAsk& ask) {
    const TrainJob job = **parse_train_job(ask.job.spec.detail);
    code.insert(job.function);
    SliceOutcome outcome{.result = JobStore::SliceResult{}, .pin = store->pin()};
    if (job.trainer == TrainerKind::Linear) {
      outcome.result->files.push_back(file("model.onnx", "linear", outcome.pin));
      return finish(std::move(outcome), 0.61);
    }
    const auto number = static_cast<std::uint32_t>(job.params.value("max_depth", 0));
    const auto& resources = plan().halving.resources;
    std::uint32_t rung = static_cast<std::uint32_t>(resources.size()) - 1;
    for (std::uint32_t i = 0; i + 1 < resources.size(); ++i)
      if (job.rounds == resources[i]) rung = i;
    // Where the rung below ended.
    for (const JobFile& input : ask.files) {
      CHECK(input.role == FileRole::Checkpoint);
      CHECK(input.name == "state.json");
      ++restored;
    }
    tried.emplace(number, rung);
    const double value = worth(number, rung);
    if (value < 0) return {.result = refuse(fails_with, "as the test wants it")};
    if (job.model) {
      outcome.result->files.push_back(file("model.onnx", fmt::format("{}", number), outcome.pin));
      outcome.result->files.push_back(
          file("report.json", R"({"classes": ["bad", "good"]})", outcome.pin));
    } else {
      outcome.result->files.push_back(
          file("checkpoint/state.json", fmt::format("{} {}", number, rung), outcome.pin));
    }
    return finish(std::move(outcome), value);
  }

  static SliceOutcome finish(SliceOutcome outcome, double value) {
    outcome.result->finished = true;
    outcome.result->result =
        Json{{"metrics",
              {{"auc", {{"value", value}, {"low", value - 0.02}, {"high", value + 0.02}}}}}}
            .dump();
    return outcome;
  }

  SliceOutcome score(const SliceAsk& ask) {
    const ScoreJob job = **parse_score_job(ask.job.spec.detail);
    CHECK(job.split == Split::Test);
    CHECK(job.classes == std::vector<std::string>{"bad", "good"});
    alphas.push_back(job.alpha);
    for (const JobFile& input : ask.files) inputs.push_back(input.name);
    const auto metrics = [](double value) {
      return Json{{"metrics",
                   {{"auc", {{"value", value}, {"low", value - 0.04}, {"high", value + 0.04}}}}}};
    };
    Json models = Json::object();
    for (const std::string& name : job.models) models[name] = metrics(name == "m0" ? on_test : 0.6);
    JobStore::SliceResult result;
    result.finished = true;
    result.result = Json{{"metric", "auc"},
                         {"rows", 200},
                         {"models", models},
                         {"baselines", {{"majority", metrics(0.5)}}}}
                        .dump();
    return {.result = result};
  }

  JobFile file(const std::string& name, const std::string& bytes, Pin& pin) {
    const Path path = folder_.path() / "made";
    const Fd made = open_file(path, O_RDWR | O_CREAT | O_TRUNC, 0644).value();
    REQUIRE(write_all(made.get(), bytes).has_value());
    REQUIRE(::lseek(made.get(), 0, SEEK_SET) == 0);
    return store->put(FileRole::Result, name, made.get(), pin).value();
  }

  // Of an xgboost on credit whose trials are told apart by their max_depth.
  TrainPlan plan() const {
    TrainPlan made{.data = {.dataset = "credit", .snapshot = 1},
                   .digest = "d",
                   .rows = {.train = 700, .valid = 100, .test = test_rows},
                   .job = {.target = "class", .metric = "auc", .seed = 3, .memory = mib(100)},
                   .why = "",
                   .rule = *metric_rule(TrainTask::Binary, "auc"),
                   .left_out = {},
                   .space = {},
                   .halving = {.trials = trials, .eta = 3, .resources = {10, 30, 90}},
                   .budget = budget,
                   .goal = goal};
    std::vector<Json> numbers;
    for (std::uint32_t number = 1; number <= 16; ++number) numbers.emplace_back(number);
    made.sampler = sampler;
    if (trials > 1) made.space = {{"max_depth", search::Choice{numbers}}};
    if (trials == 1) made.halving.resources = {1};
    made.job.trainer = trainer;
    if (is_function(trainer)) made.job.function = "mayfly.cnn";
    return made;
  }

  std::string submit() {
    const auto job = loop.run(engine->submit({.id = to_string(ids_.next()),
                                              .function = "risk",
                                              .version = 0,
                                              .kind = JobKind::Train,
                                              .detail = to_json(plan()),
                                              .caller = "ci",
                                              .memory = {},
                                              .cpus = 0,
                                              .submitted = engine->now(),
                                              .expires = engine->now() + 1h,
                                              .keep = 1h},
                                             {}));
    REQUIRE_MESSAGE(job.has_value(), job.error().message);
    return job->spec.id;
  }
  JobRecord find(const std::string& id) { return loop.run(engine->find(id)).value(); }
  std::vector<JobRecord> parts(const std::string& id) {
    return loop.run(engine->list({.project = "default", .parent = id, .limit = 1000})).value();
  }
  void until(const std::function<bool()>& so) {
    while (!so()) {
      loop.poll();
      loop.run(pause());
    }
  }
  Task<void> pause() { (void)co_await sleep_for(loop, 1ms); }
  Json train() { return result(submit()); }
  Json result(const std::string& id) {
    until([&] { return is_over(find(id).state); });
    const JobRecord job = find(id);
    REQUIRE_MESSAGE(job.state == JobState::Done, job.message);
    return Json::parse(job.result);
  }
  std::string text_of(const std::string& id, std::string_view name) {
    for (const JobFile& one : store->files(id).value())
      if (one.name == name)
        return read_all_fd(store->open_file(one.digest)->get(), 1 << 20).value();
    return "";
  }

  TempDir folder_ = TempDir::create().value();
  Loop loop;
  SystemClock clock_;
  SystemRng rng_;
  InvocationIds ids_{clock_, rng_};
  std::unique_ptr<LocalBlobStore> blobs_;
  std::unique_ptr<DatasetStore> datasets_;
  std::unique_ptr<JobStore> store;
  std::uint32_t cpus = 4;
  std::uint32_t trials = 9;
  std::uint64_t test_rows = 200;
  Sampler sampler = Sampler::Random;
  TrainBudget budget;
  std::optional<Goal> goal;
  Worth worth = [](std::uint32_t number, std::uint32_t rung) {
    return 0.6 + 0.01 * number + 0.005 * rung;
  };
  std::string_view fails_with = reason::kOutOfMemory;
  double on_test = 0.75;
  bool hold = false;
  RegisterTrained enroll;
  TrainerKind trainer = TrainerKind::Xgboost;
  decltype(TrainingSlices::Parts::bring) bring;
  std::set<std::string> code;  // that trials ran
  std::set<std::pair<std::uint32_t, std::uint32_t>> tried;
  std::map<std::string, int> began;
  std::vector<double> alphas;
  std::vector<std::string> inputs;
  int restored = 0;
  std::unique_ptr<JobEngine> engine;
  std::unique_ptr<TrainingSlices> trainings_;
};

}  // namespace

TEST_CASE("one configuration is trained, compared and looked at once") {
  TrainRig rig;
  rig.trials = 1;
  const std::string id = rig.submit();
  const Json result = rig.result(id);
  CHECK(result["outcome"] == "finished");
  CHECK(result["registered"] == false);
  CHECK(result["best"]["metrics"]["auc"]["value"] == 0.6 + 0.01 * 0);
  CHECK(result["test"]["metrics"]["auc"]["value"] == 0.75);
  CHECK(result["test"]["looks"] == 1);
  CHECK(result["baselines"]["linear"]["valid"]["auc"]["value"] == 0.61);
  CHECK(result["baselines"]["linear"]["test"]["auc"]["value"] == 0.6);
  CHECK(result["baselines"]["majority"]["test"]["auc"]["value"] == 0.5);
  CHECK(result["cost"]["amount"] == 3 * 0.25);  // a trial, a baseline, a score
  CHECK(rig.inputs == std::vector<std::string>{"m0.onnx", "m1.onnx"});
  CHECK(rig.alphas == std::vector<double>{0.05});
  CHECK(rig.text_of(id, "model.onnx") == "0");
  CHECK(rig.parts(id).size() == 3);
}

TEST_CASE("a search promotes the best, from where they ended, and the control to the end") {
  TrainRig rig;
  const std::string id = rig.submit();
  const Json result = rig.result(id);
  CHECK(rig.tried.contains({0, 2}));
  CHECK(rig.restored > 4);
  CHECK(result["search"] == "trials");
  double best = 0;
  for (const auto& [number, rung] : rig.tried) best = std::max(best, rig.worth(number, rung));
  CHECK(result["best"]["metrics"]["auc"]["value"] == doctest::Approx(best));
  CHECK(rig.text_of(id, "model.onnx") ==
        fmt::format("{}", result["best"]["params"]["max_depth"].dump()));
}

TEST_CASE("the same seed tries the same and finds the same, however many run beside each other") {
  std::string first;
  std::set<std::pair<std::uint32_t, std::uint32_t>> tried;
  for (const std::uint32_t cpus : {1U, 2U, 4U, 7U}) {
    TrainRig rig;
    rig.cpus = cpus;
    rig.restart();
    const Json result = rig.train();
    if (first.empty()) {
      first = result["best"]["params"].dump();
      tried = rig.tried;
    }
    CHECK(result["best"]["params"].dump() == first);
    CHECK(rig.tried == tried);
  }
}

TEST_CASE("what earlier trials suggest is tried, the same however many run beside each other") {
  using Tried = std::set<std::pair<std::uint32_t, std::uint32_t>>;
  const auto search = [](Sampler sampler, std::uint32_t cpus, int kills) {
    TrainRig rig;
    rig.cpus = cpus;
    rig.trials = 60;
    rig.sampler = sampler;
    rig.restart();
    const std::string id = rig.submit();
    for (int kill = 0; kill < kills; ++kill) {
      for (int turn = 0; turn < 40; ++turn) rig.loop.poll();
      rig.restart();
    }
    const Json result = rig.result(id);
    std::size_t lines = 0;
    std::istringstream log(rig.text_of(id, "decisions.jsonl"));
    for (std::string line; std::getline(log, line);) {
      const Json said = Json::parse(line);
      if (!said.contains("end")) continue;
      ++lines;
      const Json& end = said["end"];
      const Json params = end["params"];
      CHECK(rig.tried.contains({params.value("max_depth", 0U), end["rung"].get<std::uint32_t>()}));
    }
    CHECK(lines >= 60);
    return std::pair(result["best"]["params"].dump(), rig.tried);
  };
  const std::pair<std::string, Tried> first = search(Sampler::Tpe, 1, 0);
  CHECK(search(Sampler::Tpe, 4, 0) == first);
  CHECK(search(Sampler::Tpe, 16, 0) == first);
  CHECK(search(Sampler::Tpe, 4, 3) == first);
  CHECK(search(Sampler::Random, 4, 0).second != first.second);
}

TEST_CASE("the control goes to its end, though what is next hangs on trials that are dropped") {
  for (double cost = 2; cost < 20; cost += 1.5) {
    TrainRig rig;
    rig.trials = 60;
    rig.sampler = Sampler::Tpe;
    rig.budget.cost = cost;
    const Json result = rig.train();
    CHECK(result["search"] == "cost");
    CHECK_MESSAGE(rig.tried.contains({0, 2}), cost);
  }
}

TEST_CASE("a search stops where its best surely reaches the goal, and the test split decides") {
  TrainRig rig;
  rig.trials = 27;
  rig.goal = Goal{.metric = "auc", .at = 0.65, .higher = true};
  SUBCASE("reached") {
    const std::string id = rig.submit();
    const Json result = rig.result(id);
    CHECK(result["outcome"] == "goal_reached");
    CHECK(rig.find(id).progress.text.starts_with("goal_reached, best auc"));
    CHECK(result["search"] == "goal");
    CHECK(result["candidates"] < 27);
    CHECK(rig.tried.contains({0, 2}));  // the control went on
    CHECK(rig.tried.size() < 27);
    CHECK(rig.text_of(id, "model.onnx") == result["best"]["params"]["max_depth"].dump());
    const auto decisions = parse_decisions(rig.text_of(id, "decisions.jsonl"));
    REQUIRE(decisions.has_value());
    CHECK(judge(decisions->plan, decisions->log).best->work.trial == result["best"]["trial"]);
  }
  SUBCASE("not on rows that it was not tuned on") {
    rig.on_test = 0.55;
    CHECK(rig.train()["outcome"] == "goal_not_reached");
  }
  SUBCASE("not to be told on so few") {
    rig.on_test = 0.67;
    const Json result = rig.train();
    CHECK(result["outcome"] == "data_too_small");
    CHECK(result["rows_to_decide"] == 800);
  }
  SUBCASE("never looked at") {
    rig.test_rows = 0;
    CHECK(rig.train()["outcome"] == "data_too_small");
    CHECK(rig.alphas.empty());
  }
}

TEST_CASE("each look at a test split is counted, and corrects those that come later") {
  TrainRig rig;
  rig.trials = 1;
  for (std::uint32_t look = 1; look <= 3; ++look) CHECK(rig.train()["test"]["looks"] == look);
  CHECK(rig.alphas == std::vector<double>{0.05, 0.025, 0.05 / 3});
  const auto dataset = rig.datasets_->find("default", "credit").value();
  CHECK(rig.datasets_->looks(dataset.id)->size() == 3);
}

TEST_CASE("killed at any moment a training goes on, and nothing is done twice") {
  TrainRig whole;
  const Json expected = whole.train();
  TrainRig rig;
  const std::string id = rig.submit();
  for (int kills = 0; kills < 25 && !is_over(rig.find(id).state); ++kills) {
    const std::size_t known = rig.began.size();
    rig.until([&] { return rig.began.size() > known || is_over(rig.find(id).state); });
    rig.restart();
  }
  const Json result = rig.result(id);
  CHECK(result["best"]["params"] == expected["best"]["params"]);
  CHECK(result["trials"] == expected["trials"]);
  CHECK(rig.tried == whole.tried);
  CHECK(rig.parts(id).size() == whole.began.size());
  CHECK(result["test"]["looks"] == 1);
}

TEST_CASE(
    "trials that fail are results; where all do, the training fails with the first's reason") {
  TrainRig rig;
  SUBCASE("some") {
    rig.worth = [](std::uint32_t number, std::uint32_t) { return number % 2 == 1 ? -1 : 0.7; };
    CHECK(rig.train()["best"]["params"].value("max_depth", 0) % 2 == 0);
  }
  SUBCASE("all") {
    rig.worth = [](std::uint32_t, std::uint32_t) { return -1; };
    const std::string id = rig.submit();
    rig.until([&] { return is_over(rig.find(id).state); });
    CHECK(rig.find(id).state == JobState::Failed);
    CHECK(rig.find(id).reason == reason::kOutOfMemory);
  }
  SUBCASE("what is wrong with the data ends it at once") {
    rig.cpus = 1;
    rig.restart();
    rig.fails_with = reason::kInvalidInput;
    rig.worth = [](std::uint32_t, std::uint32_t) { return -1; };
    const std::string id = rig.submit();
    rig.until([&] { return is_over(rig.find(id).state); });
    CHECK(rig.find(id).reason == reason::kInvalidInput);
    CHECK(rig.tried.size() == 1);
  }
}

TEST_CASE("a cost that is used up ends a search with the best there is") {
  TrainRig rig;
  rig.cpus = 1;
  rig.restart();
  rig.trials = 100;
  rig.budget.cost = 1.2;  // five trials
  const Json result = rig.train();
  CHECK(result["search"] == "cost");
  CHECK(rig.tried.contains({0, 2}));
  CHECK(result["trials"].get<int>() <= 9);
  CHECK(result["outcome"] == "finished");
}

TEST_CASE("cancelled in the middle it ends with all its trials; paused it waits with them") {
  TrainRig rig;
  rig.hold = true;
  const std::string id = rig.submit();
  rig.until([&] { return rig.began.size() == 4; });
  SUBCASE("cancelled") {
    REQUIRE(rig.loop.run(rig.engine->cancel(id)).has_value());
    for (const JobRecord& part : rig.parts(id)) CHECK(part.state == JobState::Cancelled);
    CHECK(rig.find(id).state == JobState::Cancelled);
  }
  SUBCASE("paused, and on again") {
    REQUIRE(rig.loop.run(rig.engine->pause(id)).has_value());
    rig.until([&] { return rig.find(id).state == JobState::Paused; });
    rig.hold = false;
    rig.restart();  // what ran of them is paused by it
    CHECK(rig.parts(id).size() == 4);
    CHECK(rig.find(id).state == JobState::Paused);
    REQUIRE(rig.loop.run(rig.engine->resume(id)).has_value());
    CHECK(rig.result(id)["outcome"] == "finished");
  }
}

TEST_CASE("two trainings at once both end") {
  TrainRig rig;
  const std::string one = rig.submit();
  const std::string other = rig.submit();
  CHECK(rig.result(one)["best"]["params"] == rig.result(other)["best"]["params"]);
}

TEST_CASE("a trainer that is brought along is a version before a trial runs, and stays that one") {
  TrainRig rig;
  rig.trainer = TrainerKind::Cnn;
  rig.trials = 1;
  int asked = 0;
  bool comes = false;
  rig.bring = [&](TrainingSlices::Parts::BringAsk ask) -> Task<Result<TrainCode>> {
    ++asked;
    CHECK(ask.project == "default");
    CHECK(ask.who == "ci");
    ask.told("fetching");
    while (!comes)
      if (!co_await sleep_for(rig.loop, 1ms, ask.cancel))
        co_return refuse(reason::kDraining, "the node stops");
    co_return TrainCode{.function = fmt::format("mayfly.cnn@{}", asked),
                        .artifact = "a",
                        .environment = "e",
                        .packages = {}};
  };
  rig.restart();
  const std::string id = rig.submit();
  const auto waits = [&] {
    return rig.find(id).progress.text.starts_with("mayfly.cnn is published first: fetching");
  };
  rig.until(waits);
  CHECK(rig.parts(id).empty());
  rig.restart();  // in the middle of it
  rig.until([&] { return asked == 2; });
  comes = true;
  rig.hold = true;
  rig.until([&] { return rig.parts(id).size() == 1; });
  rig.restart();  // it is known now
  rig.hold = false;
  rig.restart();
  const Json result = rig.result(id);
  CHECK(asked == 2);
  CHECK(rig.code == std::set<std::string>{"", "mayfly.cnn@2"});  // the baseline runs none
  CHECK(result["code"]["function"] == "mayfly.cnn@2");
}

TEST_CASE("a trainer that cannot be brought fails its training, and says why") {
  TrainRig rig;
  rig.trainer = TrainerKind::Cnn;
  rig.bring = [](TrainingSlices::Parts::BringAsk) -> Task<Result<TrainCode>> {
    co_return refuse(reason::kPublishFailed, "no mirror answers");
  };
  rig.restart();
  const std::string id = rig.submit();
  rig.until([&] { return is_over(rig.find(id).state); });
  CHECK(rig.find(id).state == JobState::Failed);
  CHECK(rig.find(id).reason == reason::kPublishFailed);
  CHECK(rig.find(id).message.find("no mirror answers") != std::string::npos);
}

TEST_CASE("what reached its goal is handed over once, with its trial and its score") {
  TrainRig rig;
  rig.trials = 1;
  std::vector<TrainedModel> handed;
  rig.enroll = [&](TrainedModel model) -> Task<Result<Registered>> {
    handed.push_back(std::move(model));
    co_return Registered{.version = {7}, .gate = {{"passed", true}}};
  };
  rig.restart();
  SUBCASE("registered") {
    const Json result = rig.train();
    CHECK(result["registered"] == true);
    CHECK(result["version"] == 7);
    CHECK(result["gate"]["passed"] == true);
    REQUIRE(handed.size() == 1);
    CHECK(handed[0].trial.state == JobState::Done);
    CHECK(handed[0].score.spec.kind == JobKind::Score);
    CHECK(handed[0].author.who == "ci");
    CHECK(Json::parse(handed[0].job.result)["outcome"] == "finished");
  }
  SUBCASE("a goal that is not reached makes no version") {
    rig.goal = Goal{.metric = "auc", .at = 0.9, .higher = true};
    const Json result = rig.train();
    CHECK(result["outcome"] == "goal_not_reached");
    CHECK(handed.empty());
  }
}
