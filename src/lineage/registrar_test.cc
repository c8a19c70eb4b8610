// From a training to its version on real stores; the jails of publishing and scoring are played.
#include "lineage/registrar.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>

#include "async/loop.h"
#include "core/caller_reason.h"
#include "core/reason.h"
#include "lineage/json_parts.h"
#include "lineage/lineage.h"
#include "registry/testing/registry_fixture.h"
#include "sandbox/testing/fake_spawner.h"
#include "serving/ledger_writer.h"
#include "store/local_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

// Publishing finds every model good, and its run to take `run`.
class PublishesAll final : public JobRunner {
 public:
  explicit PublishesAll(Loop& loop) : loop_(loop) {}
  Result<std::unique_ptr<Job>> run_job(JobSpec spec, JobEvents events) override {
    struct Played final : Job {
      void kill() override {}
      void send(std::string_view, Fd) override {}
    };
    loop_.post([this, spec = std::move(spec), events = std::move(events)]() mutable {
      Report report;
      report.runtime_version = "1.31.1";
      report.signature.inputs = {{input, DataType::Fp32, {-1}}};
      report.signature.outputs = {{"label", DataType::Int64, {-1}}};
      report.candidates = {Candidate{.warm_run = run}};
      report.files = {{"load.json", 2}, {"model.onnx", 5}};
      REQUIRE(make_directories(spec.work / "out").has_value());
      REQUIRE(write_file_durably(spec.work / "out/load.json", "{}").has_value());
      REQUIRE(write_file_durably(spec.work / "out/model.onnx", "bytes").has_value());
      REQUIRE(write_file_durably(spec.work / "report.json", to_json(PublishOutcome(report)))
                  .has_value());
      events.on_end({});
    });
    return std::make_unique<Played>();
  }
  Duration run = 100us;
  std::string input = "x";

 private:
  Loop& loop_;
};

// An array in NumPy's format, version 1.0.
std::string npy(std::string_view type, const std::string& shape, std::string_view bytes) {
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", type, shape);
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string file("\x93NUMPY\x01\x00", 8);
  file += static_cast<char>(header.size() & 0xff);
  file += static_cast<char>(header.size() >> 8U);
  return file + header + std::string(bytes);
}

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

struct Rig {
  RegistryFixture fixture;
  Path root = fixture.folder.path();
  SystemClock clock;
  SystemRng rng;
  Loop loop{clock};
  Pool pool{loop, "control", 1};
  PublishesAll jails{loop};
  std::unique_ptr<LocalBlobStore> blobs = LocalBlobStore::open(made("blobs"), made("tmp")).value();
  std::unique_ptr<LocalBlobStore> job_blobs =
      LocalBlobStore::open(made("jobs"), made("jobs_tmp")).value();
  std::unique_ptr<DatasetStore> datasets = DatasetStore::open(root / "datasets.db").value();
  std::unique_ptr<JobStore> jobs =
      JobStore::open(root / "jobs.db", *job_blobs, clock, [this](const Digest& digest) {
        return datasets->names(digest);
      }).value();
  Pins pins{clock};
  std::unique_ptr<BlobOwners> owners = BlobOwners::open(root / "identity.db", clock, [] {
                                         return std::vector<OwnedBlob>();
                                       }).value();
  std::unique_ptr<SecretStore> secrets =
      SecretStore::open(root / "identity.db", root / "secrets.key", clock, rng).value();
  std::unique_ptr<SigningKeyStore> keys =
      SigningKeyStore::open(root / "identity.db", *secrets, clock, rng).value();
  Publisher publisher{
      loop, pool, jails, {.compiled = made("compiled"), .tmp = made("publish")}, {"1.31.1", "x86"}};
  QuotaGate quotas{{loop, pool, [] { return QuotaGate::Used{}; }}};
  Catalog catalog{{*fixture.registry, *blobs, publisher, pool, quotas}};
  FakeSpawner spawner{loop};
  Dispatcher dispatcher{loop, spawner, {}};
  std::unique_ptr<Ledger> ledger = Ledger::open(root / "ledger", clock, {}).value();
  LedgerWriter writer{loop, *ledger};
  InvocationIds ids{clock, rng};
  Shadows shadows{{loop, catalog, dispatcher, writer, ids}};
  TrafficSwitch traffic{{pool, *fixture.registry, catalog, dispatcher, shadows, *keys}};
  Rollouts rollouts{{loop, pool, *fixture.registry, catalog, traffic}};
  DatasetRecord credit = datasets
                             ->ensure({.project = "default",
                                       .name = "credit",
                                       .caller = "alice",
                                       .key = {.k0 = 1, .k1 = 2}})
                             .value();
  // Of the two models over the same rows: what the scoring of a gate leaves.
  struct Scored {
    int rows = 400, champion_wrong = 100, challenger_wrong = 20;
    JobState state = JobState::Done;
  } scored;
  std::vector<JobSubmission> scorings;
  std::vector<Digest> champions;  // of each scoring
  Bytes stored_limit{};           // 0: none
  Registrar registrar{{.pool = pool,
                       .clock = clock,
                       .blobs = *blobs,
                       .owners = *owners,
                       .pins = pins,
                       .registry = *fixture.registry,
                       .catalog = catalog,
                       .traffic = traffic,
                       .rollouts = rollouts,
                       .publisher = publisher,
                       .jobs = *jobs,
                       .job_blobs = *job_blobs,
                       .datasets = *datasets,
                       .score = [this](JobSubmission job,
                                       std::vector<JobFile> inputs) { return score(job, inputs); },
                       .byte_limit = [this](std::string_view) { return stored_limit; },
                       .stop = {}}};
  Lineage lineage{{.registry = *fixture.registry,
                   .blobs = *blobs,
                   .jobs = *jobs,
                   .datasets = *datasets,
                   .ledger = root / "ledger"}};

  ~Rig() {
    loop.run(rollouts.close());
    loop.run(shadows.close());
    loop.run(dispatcher.drain(1s));
  }

  Path made(const char* name) const {
    std::filesystem::create_directories(root / name);
    return root / name;
  }

  JobFile keep(FileRole role, std::string name, std::string_view content) {
    const auto to = job_blobs->create().value();
    REQUIRE(to->append(std::as_bytes(std::span(content))).has_value());
    const BlobInfo info = to->commit().value();
    return {.role = role, .name = std::move(name), .digest = info.digest, .size = info.size};
  }

  std::uint32_t put(const std::string& job, std::uint32_t parent = 0) {
    const JobFile schema = keep(FileRole::Result, "schema.json",
                                to_json(DatasetSchema{.columns = {{.name = "age"},
                                                                  {.name = "class",
                                                                   .type = ColumnType::Category,
                                                                   .categories = {"bad", "good"}}},
                                                      .target = "class",
                                                      .event_time = {},
                                                      .split = {}}));
    const auto made = datasets->commit(
        {.snapshot = {.dataset = credit.id,
                      .kind = parent > 0 ? SnapshotKind::Append : SnapshotKind::Put,
                      .parent = parent,
                      .job = job,
                      .rows = {.train = 700, .valid = 100, .test = 200},
                      .report = "{}",
                      .sources = R"([{"name":"german.csv","sha256":"aa"}])"},
         .part = {},
         .files = {{.path = std::string(kSchemaFile),
                    .digest = schema.digest,
                    .size = schema.size}},
         .limit = {}});
    REQUIRE(made.has_value());
    return made->number;
  }

  // A job that is done, with its files.
  JobRecord done(JobSubmission job, std::vector<JobFile> files, const std::string& result) {
    job.function = "credit-risk";
    job.expires = clock.wall_now() + 1h;
    job.keep = 1h;
    REQUIRE(jobs->submit(job, {}, {}).has_value());
    const auto leased =
        jobs->lease({.now = clock.wall_now(), .after_project = "", .memory = gib(8), .cpus = 8});
    REQUIRE(leased->has_value());
    REQUIRE((*leased)->spec.id == job.id);
    const auto over = jobs->advance(
        lease_of(**leased), clock.wall_now(),
        {.finished = true, .checkpoint = {}, .files = std::move(files), .result = result}, {});
    REQUIRE_MESSAGE(over.has_value(), over.error().message);
    return *over;
  }

  TrainedModel train(int number, std::uint32_t snapshot, std::string result = "") {
    const auto id = [&](int part) {
      return fmt::format("0198f000-0000-7000-8000-{:06}{:06}", number, part);
    };
    if (result.empty())
      result = R"({"outcome":"goal_reached","goal":{"metric":"accuracy","at":0.7},"trials":3,
        "test":{"metrics":{"accuracy":{"value":0.8,"low":0.74,"high":0.85}},"rows":200,"looks":1,
        "alpha":0.05},"baselines":{"majority":{"metrics":{"accuracy":{"value":0.7}}}}})";
    const Json detail{{"train", {{"trainer", "xgboost"}, {"positive", "good"}, {"group", "kind"}}},
                      {"data", {{"dataset", "credit"}, {"snapshot", snapshot}}}};
    std::vector<JobFile> files{
        keep(FileRole::Result, "model.onnx", fmt::format("model {}", number)),
        keep(FileRole::Result, "report.json",
             R"({"task":"binary","target":"class","metric":"accuracy","classes":["bad","good"],
                 "trainer":"xgboost","params":{"eta":0.3},"seed":7,
                 "metrics":{"accuracy":{"value":0.81,"low":0.75,"high":0.86}}})")};
    JobSubmission trial;
    trial.id = id(2);
    trial.kind = JobKind::Trial;
    trial.detail = detail.dump();
    trial.memory = mib(64);
    JobSubmission parent = trial;
    parent.id = id(1);
    parent.kind = JobKind::Train;
    parent.detail = "{}";
    JobRecord winner = done(trial, std::move(files), "{}");
    return {.job = done(parent, {}, result),
            .trial = std::move(winner),
            .score = {},
            .author = {.who = "alice", .why = "because"}};
  }

  Task<Result<JobRecord>> score(JobSubmission job, std::vector<JobFile> inputs) {
    scorings.push_back(job);
    REQUIRE(inputs.size() == 2);
    CHECK(inputs[0].name == "m0.onnx");
    CHECK(job_blobs->find(inputs[0].digest)->has_value());
    champions.push_back(inputs[0].digest);
    JobRecord over;
    over.spec = job;
    over.state = scored.state;
    over.message = "as played";
    if (scored.state != JobState::Done) co_return over;
    std::vector<std::int64_t> truth;
    std::vector<float> said[2];
    const int wrong[2] = {scored.champion_wrong, scored.challenger_wrong};
    for (int row = 0; row < scored.rows; ++row) {
      truth.push_back(row % 2);
      for (int model = 0; model < 2; ++model) {
        const bool one = (row % 2 == 1) != (row < wrong[model]);
        said[model].push_back(one ? 0.1F : 0.9F);
        said[model].push_back(one ? 0.9F : 0.1F);
      }
    }
    const std::string rows = std::to_string(scored.rows);
    Json figures{{"metrics", {{"accuracy", {{"value", 0.8}, {"low", 0.7}, {"high", 0.9}}}}}};
    const auto asked = parse_score_job(job.detail);
    std::vector<std::int32_t> places;  // of two values; the last row's is not listed
    for (int row = 0; row < scored.rows; ++row) places.push_back(row < scored.rows / 2 ? 0 : 1);
    places.back() = -1;
    for (const std::string& column : (*asked)->slices)
      figures["slices"][column] = {{{"value", "m"}, {"rows", 1}, {"metric", {{"value", 0.8}}}},
                                   {{"value", "f"}, {"rows", 1}, {"metric", {{"value", 0.8}}}}};
    const Json result{{"split", "test"},
                      {"task", "binary"},
                      {"metric", "accuracy"},
                      {"rows", scored.rows},
                      {"without_target", 0},
                      {"alpha", 0.025},
                      {"models", {{"m0", figures}, {"m1", figures}}},
                      {"baselines", Json::object()}};
    job.memory = mib(64);
    co_return done(
        job,
        {keep(FileRole::Result, "truth.npy", npy("<i8", rows + ",", bytes_of(truth))),
         keep(FileRole::Result, "m0/probabilities.npy",
              npy("<f4", rows + ", 2", bytes_of(said[0]))),
         keep(FileRole::Result, "m1/probabilities.npy",
              npy("<f4", rows + ", 2", bytes_of(said[1]))),
         keep(FileRole::Result, "slices/0.npy", npy("<i4", rows + ",", bytes_of(places)))},
        result.dump());
  }

  Result<Registered> add(TrainedModel trained) {
    return loop.run(registrar.add(std::move(trained)));
  }
  const FunctionEntry& function() {
    table = fixture.registry->snapshot();
    return *table->find("credit-risk");
  }
  Registry::Snapshot table;
};

FunctionName risk() { return FunctionName::parse("credit-risk").value(); }

}  // namespace

TEST_CASE("a first version that beats its baselines gets all requests, with its record") {
  Rig rig;
  const std::uint32_t snapshot = rig.put("ingest-1");
  const auto made = rig.add(rig.train(1, snapshot));
  REQUIRE_MESSAGE(made.has_value(), made.error().message);
  CHECK(made->version.value == 1);
  CHECK(made->gate["passed"] == true);
  CHECK_FALSE(rig.function().routing->waiting);
  CHECK(rig.function().current.value == 1);
  CHECK_FALSE(rig.fixture.registry->provenance(risk(), {1})->signature.empty());
  const auto record = rig.lineage.record(risk(), {1}).value();
  REQUIRE(record.has_value());
  CHECK(text_at(*record, "target") == "class");
  CHECK((*record)["metrics"]["test"]["accuracy"]["value"] == 0.8);
  CHECK((*record)["metrics"]["valid"]["accuracy"]["value"] == 0.81);
  CHECK((*record)["data"][0]["snapshot"] == snapshot);
  CHECK((*record)["data"][0]["sources"][0]["name"] == "german.csv");
  CHECK((*record)["gate"]["passed"] == true);
  CHECK((*record)["trigger"]["why"] == "because");
  CHECK((*record)["software"]["runtime"] == "1.31.1");
  const auto history = rig.fixture.registry->history(risk(), 10, "gate").value();
  REQUIRE(history.size() == 1);
  CHECK(history[0].detail.find("majority") != std::string::npos);
}

TEST_CASE("a first version that beats nothing is there, and nobody's requests reach it") {
  Rig rig;
  const auto made = rig.add(rig.train(1, rig.put("ingest-1"), R"({"test":{"metrics":{"accuracy":
    {"value":0.8,"low":0.69,"high":0.85}},"rows":200},"baselines":{"majority":{"metrics":
    {"accuracy":{"value":0.7}}}}})"));
  REQUIRE(made.has_value());
  CHECK(made->gate["passed"] == false);
  CHECK(rig.function().routing->waiting);
  CHECK(rig.loop.run(rig.catalog.find("credit-risk", "")).error().reason ==
        reason::kUnknownVersion);
  CHECK(rig.loop.run(rig.catalog.find("credit-risk", "1")).has_value());
}

TEST_CASE("what is registered without being served is not judged, and waits") {
  Rig rig;
  TrainedModel trained = rig.train(1, rig.put("ingest-1"));
  trained.serve = false;
  const auto made = rig.add(std::move(trained));
  REQUIRE(made.has_value());
  CHECK(made->gate["passed"] == false);
  CHECK(rig.function().routing->waiting);
  CHECK(rig.scorings.empty());
}

TEST_CASE("a challenger is scored beside the champion in one job, and climbs if it is better") {
  Rig rig;
  const std::uint32_t snapshot = rig.put("ingest-1");
  REQUIRE(rig.add(rig.train(1, snapshot)).has_value());
  const auto made = rig.add(rig.train(2, rig.put("ingest-2", snapshot)));
  REQUIRE_MESSAGE(made.has_value(), made.error().message);
  CHECK_MESSAGE(made->gate["passed"] == true, made->gate.dump());
  CHECK(made->gate["checks"][0]["against"] == 1);
  REQUIRE(rig.scorings.size() == 1);
  const auto asked = parse_score_job(rig.scorings[0].detail);
  REQUIRE_MESSAGE(asked.has_value(), asked.error().message);
  CHECK((*asked)->split == Split::Test);
  CHECK((*asked)->classes == std::vector<std::string>{"bad", "good"});
  CHECK((*asked)->group == "kind");
  CHECK(rig.scorings[0].parent.ends_with("000002000001"));
  CHECK(rig.rollouts.under_way(risk()));
  CHECK(rig.function().current.value == 1);
  const auto record = rig.lineage.record(risk(), {2}).value();
  CHECK((*record)["parent"] == 1);
  CHECK(origin_of(*record)->group == "kind");
}

TEST_CASE("a challenger that is not shown to be better stays a version, without requests") {
  Rig rig;
  const std::uint32_t snapshot = rig.put("ingest-1");
  REQUIRE(rig.add(rig.train(1, snapshot)).has_value());
  rig.scored = {.champion_wrong = 22, .challenger_wrong = 20};
  const auto close = rig.add(rig.train(2, snapshot));
  REQUIRE(close.has_value());
  CHECK(close->gate["passed"] == false);
  rig.scored = {.rows = 80, .champion_wrong = 40, .challenger_wrong = 0};
  const auto few = rig.add(rig.train(3, snapshot));
  REQUIRE(few.has_value());
  CHECK(text_at(few->gate, "why").find("too few rows") != std::string::npos);
  rig.scored.state = JobState::Failed;
  const auto failed = rig.add(rig.train(4, snapshot));
  REQUIRE(failed.has_value());
  CHECK(text_at(failed->gate, "why").find("as played") != std::string::npos);
  CHECK_FALSE(rig.rollouts.under_way(risk()));
  CHECK(rig.function().versions.size() == 4);
  CHECK(rig.function().current.value == 1);
}

TEST_CASE("a newer version takes the place of one whose rollout is under way, and both say so") {
  Rig rig;
  const std::uint32_t snapshot = rig.put("ingest-1");
  CHECK(rig.add(rig.train(1, snapshot))->rollout["state"] == "promoted");
  CHECK(rig.add(rig.train(2, snapshot))->rollout["state"] == "started");
  const auto third = rig.add(rig.train(3, snapshot));
  REQUIRE_MESSAGE(third.has_value(), third.error().message);
  CHECK(third->rollout["state"] == "started");
  CHECK(rig.rollouts.standing("credit-risk")->version.value == 3);
  CHECK(rig.function().current.value == 1);
  bool told = false;
  for (const Change& change : rig.fixture.registry->history(risk(), 100, "rollout").value()) {
    const Json line = object_in(change.detail);
    if (text_at(line, "what") != "superseded") continue;
    CHECK(line["version"] == 2);
    CHECK(line["by"] == 3);
    told = true;
  }
  CHECK(told);
}

TEST_CASE("a version that cannot be rolled out leaves the rollout under way as it is") {
  Rig rig;
  const std::uint32_t snapshot = rig.put("ingest-1");
  REQUIRE(rig.add(rig.train(1, snapshot)).has_value());
  REQUIRE(rig.add(rig.train(2, snapshot)).has_value());
  rig.jails.input = "y";
  const auto third = rig.add(rig.train(3, snapshot));
  REQUIRE_MESSAGE(third.has_value(), third.error().message);
  CHECK(third->rollout["state"] == "not_started");
  CHECK(text_at(third->rollout, "why").find("other inputs") != std::string::npos);
  REQUIRE(rig.rollouts.standing("credit-risk").has_value());
  CHECK(rig.rollouts.standing("credit-risk")->version.value == 2);
}

TEST_CASE("at the last step of a rollout the next version is held against its champion, too") {
  Rig rig;
  const std::uint32_t snapshot = rig.put("ingest-1");
  REQUIRE(rig.add(rig.train(1, snapshot)).has_value());
  REQUIRE(
      rig.fixture.registry->configure(risk(), R"({"rollout":{"steps":[100]}})", rig.fixture.alice)
          .has_value());
  rig.catalog.publish(rig.fixture.registry->snapshot());
  const auto second = rig.add(rig.train(2, snapshot));
  REQUIRE_MESSAGE(second.has_value(), second.error().message);
  CHECK(second->rollout["state"] == "started");
  REQUIRE(rig.function().current.value == 2);
  const auto third = rig.add(rig.train(3, snapshot));
  REQUIRE_MESSAGE(third.has_value(), third.error().message);
  CHECK(third->gate["checks"][0]["against"] == 1);
  CHECK(rig.champions == std::vector<Digest>(2, sha256("model 1")));
  CHECK((*rig.lineage.record(risk(), {3}).value())["parent"] == 1);
  CHECK(third->rollout["state"] == "started");
  CHECK(rig.rollouts.champion_of(rig.function()).value == 1);
}

TEST_CASE("a rollout that does not go on after a start of the node has its end in the history") {
  Rig rig;
  const std::uint32_t snapshot = rig.put("ingest-1");
  REQUIRE(rig.add(rig.train(1, snapshot)).has_value());
  REQUIRE(rig.add(rig.train(2, snapshot)).has_value());
  rig.loop.run(rig.rollouts.close());
  REQUIRE(rig.fixture.registry->point(risk(), {1}, rig.fixture.alice).has_value());
  rig.catalog.publish(rig.fixture.registry->snapshot());
  Rollouts next({rig.loop, rig.pool, *rig.fixture.registry, rig.catalog, rig.traffic});
  REQUIRE(next.load().has_value());
  CHECK_FALSE(next.under_way(risk()));
  const auto changes = rig.fixture.registry->history(risk(), 1, "rollout").value();
  REQUIRE(changes.size() == 1);
  const Json line = object_in(changes[0].detail);
  CHECK(line["what"] == "ended");
  CHECK(line["version"] == 2);
  CHECK(rig.fixture.registry->rollouts()->empty());
  rig.loop.run(next.close());
}

TEST_CASE("a version whose rollout cannot begin is registered, and says why") {
  Rig rig;
  const std::uint32_t snapshot = rig.put("ingest-1");
  REQUIRE(rig.add(rig.train(1, snapshot)).has_value());
  REQUIRE(rig.add(rig.train(2, snapshot)).has_value());
  REQUIRE(rig.loop.run(rig.rollouts.abort(risk(), {.who = "alice", .why = ""})).has_value());
  const auto by_hand = parse_traffic(R"({"weights":{"1":90,"2":10}})").value();
  REQUIRE(rig.fixture.registry->split(risk(), by_hand, rig.fixture.alice).has_value());
  rig.catalog.publish(rig.fixture.registry->snapshot());
  const auto made = rig.add(rig.train(3, snapshot));
  REQUIRE_MESSAGE(made.has_value(), made.error().message);
  CHECK(made->version.value == 3);
  CHECK(made->rollout["state"] == "not_started");
  CHECK(text_at(made->rollout, "why").find("split or shadowed by hand") != std::string::npos);
}

TEST_CASE("a model that the project's quota of bytes has no room for makes no version") {
  Rig rig;
  const std::uint32_t snapshot = rig.put("ingest-1");
  const TrainedModel trained = rig.train(1, snapshot);
  rig.stored_limit = Bytes{3};
  const auto refused = rig.add(trained);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().reason == reason::kQuotaExceeded);
  CHECK_FALSE(rig.fixture.registry->snapshot()->find("credit-risk"));
  rig.stored_limit = mib(1);
  CHECK(rig.add(trained).has_value());
}

TEST_CASE("a champion that nobody trained here cannot be compared with") {
  Rig rig;
  const auto writer = rig.blobs->create().value();
  REQUIRE(writer->append(std::as_bytes(std::span(std::string_view("by hand")))).has_value());
  REQUIRE(writer->commit().has_value());
  rig.fixture.deploy("credit-risk", "by hand");
  rig.catalog.publish(rig.fixture.registry->snapshot());
  const auto made = rig.add(rig.train(1, rig.put("ingest-1")));
  REQUIRE(made.has_value());
  CHECK(made->version.value == 2);
  CHECK(text_at(made->gate, "why").find("was not trained here") != std::string::npos);
  CHECK(rig.scorings.empty());
  CHECK(rig.function().current.value == 1);
}

TEST_CASE("a training that is handed over again makes no second version") {
  Rig rig;
  const TrainedModel trained = rig.train(1, rig.put("ingest-1"));
  const auto first = rig.add(trained);
  REQUIRE(first.has_value());
  const auto again = rig.add(trained);
  REQUIRE(again.has_value());
  CHECK(again->version == first->version);
  CHECK(again->gate == first->gate);
  CHECK(rig.function().versions.size() == 1);
}

TEST_CASE("a training without a model, or without data, makes no version") {
  Rig rig;
  TrainedModel trained = rig.train(1, rig.put("ingest-1"));
  trained.trial.spec.id = trained.job.spec.id;
  CHECK(rig.add(trained).error().reason == reason::kConflict);
  TrainedModel blind = rig.train(2, 1);
  blind.trial.spec.detail = "{}";
  CHECK(rig.add(blind).error().reason == reason::kConflict);
  CHECK(rig.fixture.registry->snapshot()->size() == 0);
}

TEST_CASE(
    "a lineage goes from the version to its sources, and from data to what learned from them") {
  Rig rig;
  const std::uint32_t first = rig.put("ingest-1");
  const std::uint32_t second = rig.put("ingest-2", first);
  REQUIRE(rig.add(rig.train(1, first)).has_value());
  REQUIRE(rig.add(rig.train(2, second)).has_value());
  const Json of = rig.lineage.of_version(risk(), {2}).value();
  CHECK(of["training"]["gate"]["passed"] == true);
  CHECK(of["jobs"].size() == 2);
  CHECK(of["jobs"][0]["state"] == "done");
  REQUIRE(of["data"][0]["made_of"].size() == 2);
  CHECK(of["data"][0]["made_of"][1]["sources"][0]["name"] == "german.csv");
  const Json back = rig.lineage.of_snapshot("default", "credit", first).value();
  REQUIRE(back["versions"].size() == 1);
  CHECK(back["versions"][0]["version"] == 1);
  CHECK(back["versions"][0]["serves"]["champion"] == true);
  REQUIRE(back["contained_in"].size() == 1);
  CHECK(back["contained_in"][0]["versions"][0]["version"] == 2);
  CHECK(rig.lineage.of_version(risk(), {9}).error().reason == reason::kUnknownVersion);
  CHECK(rig.lineage.of_snapshot("other", "credit", 1).error().reason == reason::kNotFound);
}

TEST_CASE("data that were erased say so on every version that learned from them") {
  Rig rig;
  const std::uint32_t snapshot = rig.put("ingest-1");
  REQUIRE(rig.add(rig.train(1, snapshot)).has_value());
  const DatasetRecord credit = rig.datasets->find("default", "credit").value();
  REQUIRE(rig.datasets->erase(credit, snapshot, {.by = "bob", .reason = "asked for"}).has_value());
  const Json of = rig.lineage.of_version(risk(), {1}).value();
  CHECK(of["data"][0]["erased"]["reason"] == "asked for");
  CHECK(rig.lineage.summary(risk(), {1}).value()["data"][0]["erased"]["by"] == "bob");
  CHECK(rig.lineage.of_snapshot("default", "credit", snapshot).value().contains("erased"));
}

TEST_CASE("an invocation leads to its version, and no other project's does") {
  Rig rig;
  REQUIRE(rig.add(rig.train(1, rig.put("ingest-1"))).has_value());
  InvocationRecord record;
  record.invocation = rig.ids.next();
  record.time = rig.clock.wall_now();
  record.project = "default";
  record.caller = "web";
  record.function = "credit-risk";
  record.version = {1};
  REQUIRE(rig.loop.run(rig.writer.commit(record)).has_value());
  const std::string id = to_string(record.invocation);
  const auto of = rig.lineage.of_invocation("default", id);
  REQUIRE_MESSAGE(of.has_value(), of.error().message);
  CHECK((*of)["invocation"]["caller"] == "web");
  CHECK((*of)["version"] == 1);
  CHECK((*of)["data"][0]["dataset"] == "credit");
  CHECK(rig.lineage.of_invocation("other", id).error().reason == reason::kNotFound);
  CHECK(rig.lineage.of_invocation("default", "nonsense").error().reason == reason::kNotFound);
}
