// Recommendations from pairs: read, learned, exported, scored.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/testing/fake_clock.h"
#include "core/reason.h"
#include "runner/train/graph_session.h"
#include "runner/train/interactions.h"
#include "runner/train/mf_trainer.h"
#include "runner/train/onnx_graph.h"
#include "runner/train/ranked_lists.h"
#include "runner/train/recommend_model.h"
#include "runner/train/recommend_parity.h"
#include "runner/train/scoring.h"
#include "runner/train/testing/runtime.h"
#include "runner/train/testing/snapshot.h"
#include "runner/train/worker.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using Numbers = std::vector<std::int64_t>;
using Words = std::vector<std::string>;

TrainTable table_of(const Snapshot& rows, const Path& folder) {
  rows.write(folder, 1, "train", row_numbers(0, static_cast<std::uint32_t>(rows.rows())));
  return *TrainTable::open(folder, "train");
}

Snapshot baskets(Words users, Words items, std::vector<double> amounts = {}) {
  Snapshot some{{{"who", ColumnKind::Category, std::move(users)},
                 {"what", ColumnKind::Category, std::move(items)}}};
  if (!amounts.empty()) some.columns.push_back({"much", ColumnKind::Number, std::move(amounts)});
  return some;
}

// Two tastes: users with even numbers have items with even numbers, the others the others; and
// some have item 0 besides, which is the most popular.
Snapshot two_tastes(std::int64_t users, std::int64_t items) {
  Numbers who;
  Words what;
  const auto add = [&](std::int64_t user, std::int64_t item) {
    who.push_back(100 + user);
    what.push_back("item " + std::to_string(10 + item));
  };
  for (std::int64_t user = 0; user < users; ++user) {
    for (std::int64_t item = user % 2; item < items; item += 2)
      if ((user * 7 + item * 3) % 4 != 0) add(user, item);
    if (user % 2 == 1 && user % 3 != 0) add(user, 0);
  }
  return {{{"who", ColumnKind::Integer, who}, {"what", ColumnKind::Category, what}}};
}

TrainJob mf_job() {
  return {.trainer = TrainerKind::Mf,
          .task = TrainTask::Recommendation,
          .target = "what",
          .group = "who",
          .params = Json{{"factors", 4}, {"top", 5}},
          .seed = 3};
}

// A second passes whenever somebody looks.
class SecondsClock final : public Clock {
 public:
  TimePoint now() const override {
    clock_.advance(std::chrono::seconds(1));
    return clock_.now();
  }
  WallTime wall_now() const override { return clock_.wall_now(); }

 private:
  mutable FakeClock clock_;
};

struct MfRun {
  TempDir dir = *TempDir::create();
  Path source = dir.path() / "source";
  Path work = dir.path() / "work";

  TrainEnd train(const TrainJob& job) {
    const Path kept = dir.path() / "restored";
    std::filesystem::remove_all(kept);
    if (job.restored) std::filesystem::rename(work / "kept", kept);
    std::filesystem::remove_all(work);
    REQUIRE(make_directories(work).has_value());
    if (job.restored) std::filesystem::rename(kept, work / "restored");
    SocketPair pair = *make_seqpacket_pair();
    std::thread server([&] {
      std::array<char, 16 * 1024> text;
      while (true) {
        const ssize_t got = ::recv(pair.ours.get(), text.data(), text.size(), 0);
        if (got <= 0) return;
        const Json said = *parse_json({text.data(), static_cast<std::size_t>(got)}, "message");
        if (!said.contains("checkpoint")) continue;
        std::filesystem::remove_all(work / "kept");
        std::filesystem::rename(work / said["checkpoint"].get<std::string>(), work / "kept");
        (void)::send(pair.ours.get(), R"({"kept": true})", 14, MSG_NOSIGNAL);
      }
    });
    const SecondsClock clock;
    const Status done =
        run_training(test_runtime(), pair.theirs.get(), job,
                     {.source = source, .work = work, .runtime = train_runtime()}, clock);
    pair.theirs.reset();
    server.join();
    REQUIRE_MESSAGE(done.has_value(), done.error().message);
    return *parse_train_end(*read_file(work / "end.json"));
  }

  Json trained(const TrainJob& job) {
    const TrainEnd end = train(job);
    REQUIRE_MESSAGE(end.how == TrainEnd::How::Finished, end.refused.message);
    return *parse_json(end.result, "result");
  }
  std::string refused(const TrainJob& job) {
    const TrainEnd end = train(job);
    REQUIRE(end.how == TrainEnd::How::Refused);
    return end.refused.message;
  }
  std::string model() const { return *read_file(work / "output" / "model.onnx", 1 << 30); }
  Json report() const { return *parse_json(*read_file(work / "output" / "report.json"), "report"); }

  TrainEnd score(const ScoreJob& job, const std::string& onnx) {
    REQUIRE(make_directories(source / "models").has_value());
    std::ofstream(source / "models" / "m0.onnx", std::ios::binary) << onnx;
    std::filesystem::remove_all(work);
    REQUIRE(make_directories(work).has_value());
    REQUIRE(run_scoring(test_runtime(), job, {.source = source, .work = work, .runtime = {}})
                .has_value());
    return *parse_train_end(*read_file(work / "end.json"));
  }

  Json scored(const ScoreJob& job, const std::string& onnx) {
    const TrainEnd end = score(job, onnx);
    REQUIRE_MESSAGE(end.how == TrainEnd::How::Finished, end.refused.message);
    const auto strict = parse_score_result(end.result, job);
    REQUIRE_MESSAGE(strict.has_value(), strict.error().message);
    return *parse_json(end.result, "result");
  }
};

std::vector<GraphOutput> ask(const std::string& onnx, GraphValues users) {
  const GraphSession session = *GraphSession::open(test_runtime(), onnx, 1);
  const std::size_t count = std::visit([](const auto& some) { return some.size(); }, users);
  const std::array<std::string, 2> outputs = {"items", "scores"};
  const auto said = session.run(
      {.rows = count, .columns = {{.name = "who", .values = std::move(users)}}}, outputs);
  REQUIRE_MESSAGE(said.has_value(), said.error().message);
  return *said;
}

ScoreJob score_job() {
  return {.split = Split::Valid,
          .task = TrainTask::Recommendation,
          .target = "what",
          .group = "who",
          .seed = 3};
}

TEST_CASE("rows become pairs, each once, and what is missing does not count") {
  TempDir dir = *TempDir::create();
  const TrainTable table =
      table_of(baskets({"ann", "bob", "ann", "", "bob", "ann", "cy"},
                       {"tea", "tea", "tea", "milk", "", "milk", "tea"}, {2, 1, 3, 1, 1, 1, 0}),
               dir.path());
  const auto columns =
      *interaction_columns(table, "what", "who", std::array<std::string, 1>{"much"});
  const Interactions found = *read_interactions(table, columns);
  CHECK(std::get<Words>(found.users.names) == Words{"ann", "bob", "cy"});
  REQUIRE(found.pairs.size() == 3);
  CHECK(found.of(0)[1].amount == 5);  // ann's tea
  CHECK(found.of(2).empty());         // cy has none of it
  CHECK(found.left_out == 3);
  CHECK(found.has(1, found.items.find("tea")));
  CHECK_FALSE(found.has(1, found.items.find("milk")));
  CHECK(found.items.find("beer") == kNoPlace);
  CHECK(found.items.find(std::int64_t{1}) == kNoPlace);
}

TEST_CASE("columns that fit no recommendation are refused in words") {
  TempDir dir = *TempDir::create();
  Snapshot rows = baskets({"a", "b"}, {"x", "y"}, {1, -2});
  const TrainTable table = table_of(rows, dir.path());
  const auto why = [&](const char* item, const char* user, std::vector<std::string> amounts) {
    const auto columns = interaction_columns(table, item, user, amounts);
    return columns ? std::string() : columns.error().message;
  };
  CHECK(why("what", "", {}).find("needs a group") != std::string::npos);
  CHECK(why("", "who", {}).find("needs a target") != std::string::npos);
  CHECK(why("what", "what", {}).find("both") != std::string::npos);
  CHECK(why("what", "nobody", {}).find("no column 'nobody'") != std::string::npos);
  CHECK(why("much", "who", {}).find("of type number") != std::string::npos);
  CHECK(why("what", "who", {"much", "much"}).find("2 were named") != std::string::npos);
  const auto negative = read_interactions(
      table, *interaction_columns(table, "what", "who", std::array<std::string, 1>{"much"}));
  REQUIRE_FALSE(negative.has_value());
  CHECK(negative.error().reason == reason::kInvalidInput);
  CHECK(negative.error().message.find("holds -2") != std::string::npos);
}

TEST_CASE("a user is judged by what he has in held-out rows and not in training rows") {
  TempDir first = *TempDir::create();
  TempDir second = *TempDir::create();
  const TrainTable train =
      table_of(baskets({"ann", "bob", "bob"}, {"tea", "tea", "milk"}), first.path());
  const TrainTable held =
      table_of(baskets({"ann", "ann", "bob", "new"}, {"tea", "milk", "tea", "rum"}), second.path());
  const auto columns = *interaction_columns(train, "what", "who", {});
  const Interactions known = *read_interactions(train, columns);
  const HeldOut found = hold_out(*read_interactions(held, columns), known);
  REQUIRE(found.users.size() == 2);  // bob has nothing new
  CHECK(found.known_users == 1);
  CHECK(found.users[0].known == known.users.find("ann"));
  CHECK(found.users[0].row == 0);
  CHECK(found.users[0].items == std::vector{found.items.find("milk")});
  CHECK(found.users[1].known == kNoPlace);
  CHECK(found.users[1].items == std::vector{found.items.find("rum")});
  const ItemLists popular = popular_lists(found, known);
  CHECK(popular[0] == std::vector{found.items.find("milk")});  // she has tea
  CHECK(popular[1].size() == 2);
  const auto worth = worth_of(validation::Metric::RecallAt10, found.users, popular);
  CHECK(worth.value == std::vector<double>{1, 0});
  // Who names an item twice gains nothing by it.
  const std::uint32_t milk = found.items.find("milk");
  const auto twice = worth_of(validation::Metric::RecallAt10, found.users, {{milk, milk}, {milk}});
  CHECK(twice.value == std::vector<double>{1, 0});
}

TEST_CASE("what is likely is recommended, without what a user has") {
  MfRun run;
  two_tastes(400, 20).split(run.source, 5);
  const Json result = run.trained(mf_job());
  CHECK(result["metrics"]["recall_at_10"]["value"].get<double>() > 0.9);
  CHECK(result["metrics"]["recall_at_10"]["low"].get<double>() > 0.8);
  CHECK(result["metrics"].contains("ndcg_at_10"));
  CHECK(result["users"] == 400);
  CHECK(result["items"] == 20);
  CHECK(result["rounds"] == 20);
  const Json parity = run.report()["parity"];
  CHECK(parity["label_mismatches"] == 0);
  CHECK(parity["from"]["unknown"].get<int>() > 0);
  CHECK(parity["rows"].get<int>() >= 400);

  const TrainTable train = *TrainTable::open(run.source, "train");
  const Interactions pairs =
      *read_interactions(train, *interaction_columns(train, "what", "who", {}));
  const auto said = ask(run.model(), Numbers{102, 103, -1});
  CHECK(said[0].shape == std::vector<std::int64_t>{3, 5});
  const auto& items = std::get<Words>(said[0].values);
  const auto& scores = std::get<std::vector<float>>(said[1].values);
  for (std::size_t row = 0; row < 2; ++row) {
    const std::uint32_t user = pairs.users.find(std::int64_t{102} + static_cast<std::int64_t>(row));
    for (std::size_t i = 0; i < 5; ++i) {
      CHECK_FALSE(pairs.has(user, pairs.items.find(items[row * 5 + i])));
      if (i > 0) CHECK(scores[row * 5 + i] <= scores[row * 5 + i - 1]);
    }
  }
  // Whom nobody knows gets the most popular.
  const auto order = by_popularity(pairs);
  for (std::size_t i = 0; i < 5; ++i) CHECK(items[10 + i] == pairs.items.text(order[i]));
  CHECK(scores[10] == popularity(pairs)[order[0]]);

  const Json scored = run.scored(score_job(), run.model());
  CHECK(scored["models"]["m0"]["metrics"]["recall_at_10"]["value"].get<double>() ==
        doctest::Approx(result["metrics"]["recall_at_10"]["value"].get<double>()).epsilon(0.01));
  CHECK(scored["baselines"]["popular"]["metrics"]["recall_at_10"]["high"].get<double>() <
        scored["models"]["m0"]["metrics"]["recall_at_10"]["low"].get<double>());
}

TEST_CASE("a recommendation that goes on from a checkpoint ends as one never stopped") {
  MfRun run;
  two_tastes(60, 12).split(run.source, 5);
  TrainJob job = mf_job();
  run.trained(job);
  const std::string whole = run.model();
  job.slice = std::chrono::seconds(8);
  CHECK(run.train(job).how == TrainEnd::How::Stopped);
  job.restored = true;
  CHECK(run.train(job).how == TrainEnd::How::Stopped);
  job.slice = Duration(0);
  run.trained(job);
  CHECK(run.model() == whole);
  job.restored = false;
  job.seed = 4;
  run.trained(job);
  CHECK(run.model() != whole);
}

TEST_CASE("where nothing is left to recommend, lists end with items without a name") {
  MfRun run;
  Snapshot rows = baskets({"all", "all", "all", "one", "one", "two", "two", "few"},
                          {"x", "y", "z", "x", "y", "y", "z", "x"});
  rows.write(run.source, 1, "train", row_numbers(0, 6));
  rows.write(run.source, 1, "valid", std::vector<std::uint32_t>{6, 7});
  TrainJob job = mf_job();
  job.params = Json{{"factors", 2}, {"lambda", 0.01}};
  run.trained(job);
  const auto said = ask(run.model(), Words{"all", "one"});
  CHECK(said[0].shape == std::vector<std::int64_t>{2, 3});  // there are no more than 3
  CHECK(std::get<Words>(said[0].values) == Words{"", "", "", "z", "", ""});
  const auto& scores = std::get<std::vector<float>>(said[1].values);
  CHECK(scores[0] == kNoScore);
  CHECK(scores[3] > kNoScore);
  CHECK(ask(run.model(), Words{})[0].shape == std::vector<std::int64_t>{0, 3});
}

TEST_CASE("items and users may both be numbers, and users texts without end") {
  MfRun run;
  Numbers items;
  Words users;
  for (std::int64_t i = 0; i < 300; ++i) {
    users.push_back("user with a long name " + std::to_string(i % 40));
    items.push_back((i * 7) % 11 * 1000 - 3000);
  }
  Snapshot rows{{{"who", ColumnKind::Text, users}, {"what", ColumnKind::Integer, items}}};
  rows.split(run.source, 4);
  run.trained(mf_job());
  const auto said = ask(run.model(), Words{"user with a long name 7", "nobody"});
  const auto& names = std::get<Numbers>(said[0].values);
  CHECK(std::ranges::all_of(names, [](std::int64_t name) {
    return name == std::numeric_limits<std::int64_t>::min() || (name + 3000) % 1000 == 0;
  }));
}

TEST_CASE(
    "models of others that recommend are asked about users alone, and must answer with lists") {
  MfRun run;
  two_tastes(60, 12).split(run.source, 5);
  const auto copy = [](const std::string& input, const std::string& output) {
    OnnxGraph graph("copy");
    const std::array<std::int64_t, 2> shape = {-1, 1};
    graph.add_input(input, onnx::TensorProto::INT64, std::array<std::int64_t, 1>{-1});
    const std::string axis =
        graph.add_integers("axis", std::array<std::int64_t, 1>{1}, std::array<std::int64_t, 1>{1});
    const std::string column = graph.add("Unsqueeze", {input, axis});
    graph.add("Identity", {column}, "", "items");
    graph.add_output("items", onnx::TensorProto::INT64, shape);
    graph.add("Cast", {column}, "", output);
    set_attribute(graph.last(), "to", std::int64_t{onnx::TensorProto::FLOAT});
    graph.add_output(output, onnx::TensorProto::FLOAT, shape);
    return *graph.serialize();
  };
  const auto why = [&](const std::string& onnx) {
    const TrainEnd end = run.score(score_job(), onnx);
    REQUIRE(end.how == TrainEnd::How::Refused);
    return end.refused.message;
  };
  CHECK(why(copy("what", "scores")).find("'what', which it is not told") != std::string::npos);
  CHECK(why(copy("amount", "scores")).find("which is no column") != std::string::npos);
  CHECK(why(copy("who", "value")).find("no output 'scores'") != std::string::npos);
  // It names items that there are not.
  const Json scored = run.scored(score_job(), copy("who", "scores"));
  CHECK(scored["models"]["m0"]["metrics"]["recall_at_10"]["value"] == 0);
  ScoreJob sliced = score_job();
  sliced.slices = {"what"};
  CHECK(run.score(sliced, copy("who", "scores")).how == TrainEnd::How::Refused);
}

TEST_CASE("data that nothing can be recommended from is refused") {
  MfRun run;
  Snapshot one = baskets({"a", "b", "c", "d"}, {"x", "x", "x", "x"});
  one.split(run.source, 2);
  CHECK(run.refused(mf_job()).find("none has other items") != std::string::npos);
  MfRun strangers;
  Snapshot rows = baskets({"a", "b", "c", "d"}, {"x", "y", "x", "y"});
  rows.write(strangers.source, 1, "train", row_numbers(0, 2));
  rows.write(strangers.source, 1, "valid", row_numbers(2, 2));
  CHECK(strangers.refused(mf_job()).find("are rows split by 'who'?") != std::string::npos);
  MfRun small;
  two_tastes(60, 12).split(small.source, 5);
  TrainJob job = mf_job();
  job.memory = Bytes{10'000};
  CHECK(small.refused(job).find("more than half of memory") != std::string::npos);
  job = mf_job();
  job.metric = "auc";
  CHECK(small.refused(job).find("recall_at_10") != std::string::npos);
}

TEST_CASE("the parity of a recommender fails where the graph says something else") {
  TempDir dir = *TempDir::create();
  const TrainTable table = table_of(two_tastes(60, 12), dir.path());
  const Interactions train =
      *read_interactions(table, *interaction_columns(table, "what", "who", {}));
  const TrainerParams params = *TrainerParams::parse(TrainerKind::Mf, Json{{"factors", 3}});
  auto trainer = *MfTrainer::create(params, 1, gib(1), train);
  for (int i = 0; i < 5; ++i) REQUIRE(trainer->step().has_value());
  std::vector<double> items(trainer->items().begin(), trainer->items().end());
  const HeldOut held = hold_out(train, train);
  const auto parity = [&] {
    const std::string onnx = *make_recommender({.train = train,
                                                .users = trainer->users(),
                                                .items = items,
                                                .factors = 3,
                                                .column = "who",
                                                .top = 10});
    return *check_recommender_parity({.runtime = test_runtime(),
                                      .onnx = onnx,
                                      .column = "who",
                                      .top = 10,
                                      .train = train,
                                      .held = held,
                                      .trainer = *trainer,
                                      .threads = 1});
  };
  CHECK(parity().passed);
  items[4] += 0.01;
  const ParityReport wrong = parity();
  CHECK_FALSE(wrong.passed);
  CHECK(wrong.details["worst"]["row"].contains("who"));
}

TEST_CASE("a million users fit, and a model beyond 2 GiB is refused before it is fitted") {
  Interactions train;
  train.items.names = Words{"x", "y"};
  Numbers users(1'000'000);
  for (std::size_t i = 0; i < users.size(); ++i) users[i] = static_cast<std::int64_t>(i);
  train.users.names = std::move(users);
  CHECK(check_recommender(train, 64, "who").has_value());
  const auto refused = check_recommender(train, 600, "who");
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().reason == reason::kTooLarge);
  CHECK_FALSE(check_recommender(train, 4, "scores").has_value());
}

}  // namespace
}  // namespace mayfly
