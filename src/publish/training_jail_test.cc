// A training for real: mayfly-runner's jail, libmayfly-train.so, XGBoost, LIBLINEAR, Faiss.
#include <fmt/format.h>

#include <bit>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "async/event.h"
#include "async/loop.h"
#include "core/json_reader.h"
#include "core/python_version.h"
#include "runner/report/run_job.h"
#include "runner/report/score_job.h"
#include "runner/report/train_job.h"
#include "sandbox/process_spawner.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

// NumPy's format, version 1.0, as docs/design/0013-datasets.md has it.
template <typename T>
void write_npy(const Path& path, std::string_view type, const std::vector<T>& values) {
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({},), }}",
                                   type, values.size());
  header.resize(117, ' ');
  header += '\n';
  std::ofstream file(path, std::ios::binary);
  file << std::string_view("\x93NUMPY\x01\x00\x76\x00", 10) << header;
  file.write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size() * sizeof(T)));
}

void open_to_all(const Path& folder) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    std::filesystem::permissions(entry.path(), std::filesystem::perms(0755));
  std::filesystem::permissions(folder, std::filesystem::perms(0755));
}

// The server's half: keeps every checkpoint.
struct TrainNode {
  TrainNode() {
    const Path beside = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    for (const char* split : {"train", "valid"}) write_rows(split, split[0] == 't' ? 600 : 200);
    std::ofstream(source() / "schema.json") << R"({"columns": [{"name": "x", "type": "number"},
        {"name": "words", "type": "text"},
        {"name": "y", "type": "category", "categories": ["no", "yes"]}]})";
    REQUIRE(make_directories(work()).has_value());
    open_to_all(dir.path());
    ProcessSpawnerOptions options;
    options.runner = beside / "mayfly-runner";
    options.python.libraries = kSystemLibraries;
    options.training = beside.parent_path() / "lib" / "mayfly" / "train";
    options.on_log = [](std::string_view, std::string_view line) { MESSAGE(line); };
    auto made = ProcessSpawner::create(loop, std::move(options));
    REQUIRE(made.has_value());
    spawner = *std::move(made);
    REQUIRE(loop.run(ready()).has_value());
  }

  Path source() const { return dir.path() / "source"; }
  Path work() const { return dir.path() / "work"; }

  // y is whether x is above a half, or the text says so.
  void write_rows(const char* split, std::uint64_t rows) const {
    const Path folder = source() / "parts" / "0" / split;
    REQUIRE(make_directories(folder).has_value());
    std::vector<double> x;
    std::vector<std::int32_t> y;
    std::vector<std::uint64_t> keys;
    std::vector<std::int64_t> offsets = {0};
    std::string text;
    for (std::uint64_t i = 0; i < rows; ++i) {
      const std::uint64_t hash = (i + 1) * 0x9e37'79b9'7f4a'7c15;
      x.push_back(static_cast<double>(hash >> 40) / (1 << 24));
      const bool surely = (hash & 7) == 0;
      y.push_back(x.back() > 0.5 || surely ? 1 : 0);
      text += surely ? "SURELY yes" : "who knows";
      offsets.push_back(std::ssize(text));
      keys.push_back(hash);
    }
    write_npy(folder / "c0.npy", "<f8", x);
    write_npy(folder / "c1.offsets.npy", "<i8", offsets);
    write_npy(folder / "c2.npy", "<i4", y);
    write_npy(folder / "row.npy", "<u8", keys);
    std::ofstream(folder / "c1.text", std::ios::binary) << text;
  }

  Task<Status> ready() {
    Future<Status> ready(loop);
    spawner->on_ready(
        [promise = ready.promise()](Status status) mutable { promise.set(std::move(status)); });
    co_return co_await ready;
  }

  void answer(std::string_view text) {
    const auto message = parse_run_message(text);
    REQUIRE_MESSAGE(message.has_value(), message.error().message);
    if (!std::holds_alternative<RunCheckpoint>(*message)) return;
    const Path folder = work() / std::get<RunCheckpoint>(*message).folder;
    CHECK(std::filesystem::exists(folder / "state.json"));
    ++kept;
    job->send(R"({"kept": true})", Fd());
  }

  Task<Result<JobEnd>> run(std::string request, std::uint32_t threads) {
    Future<Result<JobEnd>> ended(loop);
    JobEvents events;
    events.on_progress = [this](std::string_view text) { answer(text); };
    events.on_end = [promise = ended.promise()](Result<JobEnd> end) mutable {
      promise.set(std::move(end));
    };
    std::filesystem::remove_all(work());
    std::filesystem::create_directory(work());
    std::filesystem::permissions(work(), std::filesystem::perms(0755));
    JobSpec spec{.label = "train",
                 .runtime = RuntimeKind::Training,
                 .source = source(),
                 .work = work(),
                 .request = std::move(request),
                 .max_messages = 100'000,
                 .memory = mib(512),
                 .threads = threads};
    auto started = spawner->run_job(std::move(spec), std::move(events));
    if (!started) co_return std::unexpected(std::move(started).error());
    job = *std::move(started);
    co_return co_await ended;
  }

  TempDir dir = *TempDir::create();
  SystemClock clock;
  Loop loop{clock};
  std::unique_ptr<ProcessSpawner> spawner;
  std::unique_ptr<Job> job;
  int kept = 0;
};

}  // namespace

// ThreadSanitizer sees no lock of the trainers' libraries.
#if __has_feature(thread_sanitizer)
constexpr bool kBlind = true;
#else
constexpr bool kBlind = false;
#endif

TEST_CASE("every trainer learns in a jail, and what it leaves is whole" * doctest::skip(kBlind)) {
  TrainNode node;
  for (const TrainerKind trainer :
       {TrainerKind::Xgboost, TrainerKind::Linear, TrainerKind::Kmeans}) {
    CAPTURE(to_string(trainer));
    TrainJob job{.trainer = trainer, .target = "y", .threads = 2, .memory = mib(512)};
    if (trainer == TrainerKind::Xgboost) job.checkpoint_every = Duration(0);
    if (trainer == TrainerKind::Kmeans) {
      job.task = TrainTask::Clustering;
      job.target.clear();
      job.columns = {"x", "words"};
    }
    node.kept = 0;
    const auto ended = node.loop.run(node.run(to_json(job), job.threads));
    REQUIRE_MESSAGE(ended.has_value(), ended.error().message);
    CHECK(ended->exit.code == 0);
    CHECK(ended->exit.signal == 0);
    const auto end = parse_train_end(read_file(node.work() / "end.json").value_or(""));
    REQUIRE_MESSAGE(end.has_value(), end.error().message);
    REQUIRE_MESSAGE(end->how == TrainEnd::How::Finished, end->refused.message);
    CHECK(std::filesystem::file_size(node.work() / "output" / "model.onnx") > 100);
    if (trainer == TrainerKind::Xgboost) CHECK(node.kept > 3);
    if (trainer == TrainerKind::Kmeans) continue;
    const Json result = parse_json(end->result, "result").value();
    CHECK(result.at("metrics").at("auc").at("value").get<double>() > 0.95);
  }
}

TEST_CASE("a model is scored in a jail, and bytes that are none are refused there") {
  TrainNode node;
  const TrainJob training{.trainer = TrainerKind::Linear, .target = "y", .memory = mib(512)};
  REQUIRE(node.loop.run(node.run(to_json(training), 1)).has_value());
  const Path models = node.source() / "models";
  std::filesystem::create_directory(models);
  std::filesystem::copy_file(node.work() / "output" / "model.onnx", models / "m0.onnx");
  open_to_all(node.source());
  ScoreJob job{.target = "y", .classes = {"no", "yes"}, .memory = mib(512)};
  const auto ended = node.loop.run(node.run(to_json(job), 1));
  REQUIRE_MESSAGE(ended.has_value(), ended.error().message);
  CHECK(ended->exit.code == 0);
  const auto end = parse_train_end(read_file(node.work() / "end.json").value_or(""));
  REQUIRE_MESSAGE(end.has_value(), end.error().message);
  REQUIRE_MESSAGE(end->how == TrainEnd::How::Finished, end->refused.message);
  const auto result = parse_score_result(end->result, job);
  REQUIRE_MESSAGE(result.has_value(), result.error().message);
  CHECK(result->rows == 200);
  CHECK(result->models.at("m0").metrics.at("auc").value > 0.95);
  CHECK(std::filesystem::exists(node.work() / "output" / "m0" / "probabilities.npy"));

  std::ofstream(models / "m1.onnx") << std::string(100'000, 'x');
  open_to_all(node.source());
  job.models = {"m1"};
  REQUIRE(node.loop.run(node.run(to_json(job), 1)).has_value());
  const auto refused = parse_train_end(read_file(node.work() / "end.json").value_or(""));
  REQUIRE(refused.has_value());
  CHECK(refused->how == TrainEnd::How::Refused);
  CHECK(refused->refused.message.find("m1: the model cannot be opened") == 0);
}
