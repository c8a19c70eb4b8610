// From a training to its version.
#include "lineage/registrar.h"

#include <functional>
#include <string>
#include <vector>

#include "lineage/testing/training_rig.h"

#include <doctest/doctest.h>

using namespace mayfly;
using Rig = TrainingRig;

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

TEST_CASE("a first version whose test rows bound nothing gets no requests") {
  Rig rig;
  const auto made = rig.add(rig.train(1, rig.put("ingest-1"), R"({"test":{"metrics":{"accuracy":
    {"value":0.8}},"rows":3},"baselines":{"majority":{"metrics":{"accuracy":{"value":0.7}}}}})"));
  REQUIRE(made.has_value());
  CHECK(made->gate["passed"] == false);
  CHECK(rig.function().routing->waiting);
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

TEST_CASE("a scoring whose words and files do not agree proves nothing") {
  Rig rig;
  const std::uint32_t snapshot = rig.put("ingest-1");
  REQUIRE(rig.add(rig.train(1, snapshot)).has_value());
  int number = 2;
  const auto refused = [&](std::function<void(Json&, std::vector<JobFile>&)> lie) {
    rig.scored.lie = std::move(lie);
    const auto made = rig.add(rig.train(number++, snapshot));
    REQUIRE_MESSAGE(made.has_value(), made.error().message);
    CHECK(made->gate["passed"] == false);
    CHECK_FALSE(rig.rollouts.under_way(risk()));
    return std::string(text_at(made->gate, "why"));
  };
  CHECK(refused([](Json& result, auto&) {
          result["rows"] = 4000;
        }).contains("speaks of 4000 rows and left 400"));
  CHECK(refused([](Json& result, auto&) {
          result["metric"] = "auc";
        }).contains("a model lacks the metric"));
  CHECK(refused([](Json& result, auto&) {
          result["models"].erase("m0");
        }).contains("not of the models that were asked for"));
  CHECK(refused([](Json&, std::vector<JobFile>& files) {
          files.erase(files.begin());
        }).contains("left no predictions"));
  std::vector<std::int64_t> truth;
  for (int row = 0; row < rig.scored.rows; ++row) truth.push_back(row % 2);
  const auto truth_is = [&](std::string_view type, const std::string& bytes) {
    return [&rig, array = npy(type, "400,", bytes)](Json&, std::vector<JobFile>& files) {
      files[0] = rig.keep(FileRole::Result, "truth.npy", array);
    };
  };
  const std::string bytes = bytes_of(truth);
  CHECK(refused(truth_is("<i8", bytes.substr(8))).contains("left no array"));
  CHECK(refused(truth_is("<f4", bytes)).contains("left no array"));
  CHECK(refused(truth_is("|O", bytes)).contains("left no array"));
  truth.back() = 2;
  CHECK(refused(truth_is("<i8", bytes_of(truth))).contains("a row without a class"));
  truth.pop_back();
  const std::string short_of_one = npy("<i8", "399,", bytes_of(truth));
  CHECK(refused([&](Json&, std::vector<JobFile>& files) {
          files[0] = rig.keep(FileRole::Result, "truth.npy", short_of_one);
        }).contains("as many probabilities as rows"));
  rig.scored.lie = {};
  CHECK(rig.add(rig.train(number, snapshot))->gate["passed"] == true);
}

TEST_CASE("what learned from rows that were dealt anew is not compared, and gets no requests") {
  Rig rig;
  REQUIRE(rig.add(rig.train(1, rig.put("ingest-1"))).has_value());
  rig.columns[1].categories.emplace_back("unknown");
  rig.columns[0].type = ColumnType::Integer;
  CHECK(rig.add(rig.train(2, rig.put("ingest-2")))->gate["passed"] == true);
  REQUIRE(rig.loop.run(rig.rollouts.abort(risk(), {.who = "alice", .why = ""})).has_value());
  rig.columns.push_back({.name = "income"});
  const auto other = rig.add(rig.train(3, rig.put("ingest-3")));
  REQUIRE_MESSAGE(other.has_value(), other.error().message);
  CHECK(other->gate["passed"] == false);
  CHECK(text_at(other->gate, "why").contains("dealt anew"));
  CHECK(rig.scorings.size() == 1);
  CHECK_FALSE(rig.rollouts.under_way(risk()));
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
