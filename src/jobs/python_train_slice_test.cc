// Trainings by Python functions for real: mayfly-runner's jails, CPython, NumPy, onnx.
#include "jobs/python_train_slice.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "async/event.h"
#include "core/function_options.h"
#include "core/json_reader.h"
#include "core/python_version.h"
#include "core/reason.h"
#include "core/train_reason.h"
#include "sandbox/process_spawner.h"
#include "store/local_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

// p = sigmoid(20 (x - cut)), where a missing x counts as 0 and an "odd" kind turns it around; the
// model says `bias` more than predict does.
constexpr std::string_view kFunction = R"(
import json, os
import numpy as np
import onnx
from onnx import TensorProto as T, helper as h

def model(path, cut):
    f = lambda name, value: h.make_tensor(name, T.FLOAT, [], [value])
    nodes = [
        h.make_node("IsNaN", ["x"], ["hole"]),
        h.make_node("Where", ["hole", "zero", "x"], ["there"]),
        h.make_node("Sub", ["there", "cut"], ["off"]),
        h.make_node("Mul", ["off", "steep"], ["z"]),
        h.make_node("Equal", ["kind", "odd"], ["turned"]),
        h.make_node("Neg", ["z"], ["minus"]),
        h.make_node("Where", ["turned", "minus", "z"], ["w"]),
        h.make_node("Sigmoid", ["w"], ["p"]),
        h.make_node("Sub", ["one", "p"], ["q"]),
        h.make_node("Concat", ["q", "p"], ["probabilities"], axis=1)]
    info = h.make_tensor_value_info
    graph = h.make_graph(nodes, "g",
        [info("x", T.FLOAT, [None, 1]), info("kind", T.STRING, [None, 1])],
        [info("probabilities", T.FLOAT, [None, 2])],
        [f("zero", 0.0), f("one", 1.0), f("cut", cut), f("steep", 20.0),
         h.make_tensor("odd", T.STRING, [], [b"odd"])])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 19)], ir_version=9), path)

def fit(ctx):
    x, y = ctx.train["x"], ctx.labels(ctx.train)
    even = (ctx.train["kind"] != "odd") & ~np.isnan(x)
    return float((x[even & (y == 1)].min() + x[even & (y == 0)].max()) / 2)

def teller(ctx, cut):
    def predict(rows):
        x = np.nan_to_num(rows["x"]).astype(np.float32)
        z = np.float32(20) * (x - np.float32(cut))
        z = np.where(rows["kind"] == "odd", -z, z)
        with np.errstate(over="ignore"):
            p = 1 / (1 + np.exp(-z))
        return np.stack([1 - p, p], axis=1) + extra(ctx, rows)
    return predict

def extra(ctx, rows):
    return 0

def train(ctx):
    assert ctx.classes == ["no", "yes"] and ctx.columns == ["x", "kind"] and ctx.seed == 7
    assert ctx.params == {"steep": [1, 2]} and "y" in ctx.valid and not ctx.train["x"].flags.writeable
    cut = fit(ctx)
    ctx.metric("cut", cut)
    path = os.path.join(ctx.scratch, "m.onnx")
    model(path, cut)
    return ctx.result(onnx=path, predict=teller(ctx, cut))
)";

template <typename T>
void write_array(const Path& path, std::string_view type, const std::vector<T>& values) {
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({},), }}",
                                   type, values.size());
  header.resize(117, ' ');
  header += '\n';
  std::ofstream file(path, std::ios::binary);
  file << std::string_view("\x93NUMPY\x01\x00\x76\x00", 10) << header;
  file.write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size() * sizeof(T)));
}

// The server's half around one training: a store, a node's jails, checkpoints that are kept.
struct TrainingRig {
  TrainingRig() {
    for (const char* folder : {"blobs", "tmp", "snapshot", "artifact"})
      std::filesystem::create_directories(dir.path() / folder);
    blobs = LocalBlobStore::open(dir.path() / "blobs", dir.path() / "tmp").value();
    store = JobStore::open(dir.path() / "jobs.db", *blobs, clock).value();
    pin = store->pin();
    std::ofstream(dir.path() / "snapshot" / "schema.json") << R"({"columns": [
        {"name": "x", "type": "number"},
        {"name": "kind", "type": "category", "categories": ["even", "odd"]},
        {"name": "y", "type": "category", "categories": ["yes", "no"]}]})";
    write_rows("train", 900);
    write_rows("valid", 300);
    std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
    const Path beside = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    const Path libraries = beside.parent_path() / "lib" / "mayfly";
    ProcessSpawnerOptions options;
    options.runner = beside / "mayfly-runner";
    options.python = {.runtime = libraries / "python",
                      .library = kPythonLibraryFolder,
                      .libraries = kSystemLibraries,
                      .packages = {},
                      .certificates = {}};
    options.training = libraries / "train";
    options.on_log = [this](std::string_view, std::string_view line) {
      log += fmt::format("{}\n", line);
    };
    spawner = ProcessSpawner::create(loop, std::move(options)).value();
    Future<Status> ready(loop);
    spawner->on_ready(
        [promise = ready.promise()](Status status) mutable { promise.set(std::move(status)); });
    REQUIRE(loop.run(wait_for(ready)).has_value());
  }

  static Task<Status> wait_for(Future<Status>& future) { co_return co_await future; }

  // y is whether x is above a half; the other way round where the kind is odd. Some x are missing.
  void write_rows(const char* split, std::uint64_t rows) const {
    const Path folder = dir.path() / "snapshot" / "parts" / "0" / split;
    std::filesystem::create_directories(folder);
    std::vector<double> x;
    std::vector<std::int32_t> kind;
    std::vector<std::int32_t> y;
    std::vector<std::uint64_t> keys;
    for (std::uint64_t i = 0; i < rows; ++i) {
      const std::uint64_t hash = (i + 1) * 0x9e37'79b9'7f4a'7c15;
      const bool odd = (hash & 3) == 0;
      const double at = static_cast<double>(hash >> 40) / (1 << 24);
      x.push_back(i % 50 == 49 ? std::numeric_limits<double>::quiet_NaN() : at);
      kind.push_back(odd ? 1 : 0);
      y.push_back((at > 0.5) != odd ? 0 : 1);
      keys.push_back(hash);
    }
    write_array(folder / "c0.npy", "<f8", x);
    write_array(folder / "c1.npy", "<i4", kind);
    write_array(folder / "c2.npy", "<i4", y);
    write_array(folder / "row.npy", "<u8", keys);
  }

  Task<Result<std::vector<SourceFile>>> snapshot() {
    std::vector<SourceFile> files;
    const Path folder = dir.path() / "snapshot";
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file()) continue;
      const Path path = std::filesystem::relative(entry.path(), folder);
      CO_TRY(const Fd file, open_file(entry.path(), O_RDONLY));
      CO_TRY(const JobFile kept, store->put(FileRole::Input, path.native(), file.get(), pin));
      files.push_back(
          {.file = {.path = kept.name, .sha256 = to_string(kept.digest), .size = kept.size},
           .blobs = blobs.get()});
    }
    co_return files;
  }

  // Of the function with more code behind it.
  void deploy(std::string_view more) const {
    std::filesystem::create_directories(dir.path() / "artifact" / "function");
    std::ofstream(dir.path() / "artifact" / "function" / "function.py") << kFunction << more;
    std::ofstream(dir.path() / "artifact" / "function.json") << to_json(FunctionOptions());
  }

  Task<Status> keep(std::vector<JobFile> files) {
    ++record.slices;
    for (JobFile& file : files) file.slice = record.slices;
    checkpoint = std::move(files);
    if (stop_at_checkpoint) stop->cancel();
    co_return Status{};
  }

  Task<SliceOutcome> slice() {
    PythonTrainSlices slices(
        {.loop = loop,
         .pool = pool,
         .jobs = *spawner,
         .store = *store,
         .blobs = *blobs,
         .tmp = dir.path() / "tmp"},
        [this](const JobRecord&) { return snapshot(); },
        [this](const JobRecord&, const std::string& function) -> Task<Result<JobCode>> {
          CHECK(function == "own@3");
          co_return JobCode{.artifact = dir.path() / "artifact",
                            .environment = MAYFLY_PYTHON_PACKAGES,
                            .secrets = {}};
        });
    SliceAsk ask{
        .job = record,
        .files = checkpoint,
        .due = {},
        .stop = stop->token(),
        .kill = {},
        .on_progress = [this](JobProgress told) { progress = std::move(told); },
        .keep = [this](std::string, std::vector<JobFile> files) { return keep(std::move(files)); }};
    co_return co_await slices.run(std::move(ask));
  }

  SliceOutcome run(std::string_view more = "") {
    deploy(more);
    const TrainJob job{.trainer = TrainerKind::Function,
                       .function = "own@3",
                       .target = "y",
                       .params = {{"steep", {1, 2}}},
                       .seed = 7};
    record.spec = {.id = "job-1",
                   .function = "team/credit",
                   .kind = JobKind::Trial,
                   .detail = to_json(job),
                   .caller = {},
                   .memory = gib(1),
                   .cpus = 1};
    return loop.run(slice());
  }

  Error error(std::string_view more) {
    const SliceOutcome outcome = run(more);
    REQUIRE_FALSE(outcome.result.has_value());
    CHECK_FALSE(outcome.retry);
    return outcome.result.error();
  }

  std::string text_of(const JobFile& file) const {
    const Fd opened = store->open_file(file.digest).value();
    return read_all_fd(opened.get(), 1 << 26).value();
  }

  TempDir dir = *TempDir::create();
  SystemClock clock;
  Loop loop{clock};
  Pool pool{loop, "slices", 2};
  std::unique_ptr<LocalBlobStore> blobs;
  std::unique_ptr<JobStore> store;
  std::unique_ptr<ProcessSpawner> spawner;
  Pin pin{};
  JobRecord record;
  std::vector<JobFile> checkpoint;
  JobProgress progress;
  std::optional<CancelSource> stop{std::in_place};
  bool stop_at_checkpoint = false;
  std::string log;
};

bool has(const std::string& text, std::string_view words) {
  if (text.find(words) == std::string::npos) MESSAGE(text);
  return text.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("a Python function's model is checked, scored and kept as any trainer's") {
  TrainingRig rig;
  const SliceOutcome outcome = rig.run();
  REQUIRE_MESSAGE(outcome.result.has_value(), (outcome.result.error().message + rig.log));
  CHECK(outcome.result->finished);
  const Json result = parse_json(outcome.result->result, "result").value();
  CHECK(result.at("trainer") == "function");
  CHECK(result.at("function") == "own@3");
  CHECK(result.at("metrics").at("auc").at("value").get<double>() > 0.95);
  CHECK(result.at("rows").at("valid") == 300);
  std::map<std::string, std::string> files;
  for (const JobFile& file : outcome.result->files) files[file.name] = rig.text_of(file);
  for (const char* name : {"model.onnx", "report.json", "row.npy", "probabilities.npy"})
    CHECK_MESSAGE(files.contains(name), name);
  const Json report = parse_json(files["report.json"], "report").value();
  CHECK(report.at("classes") == Json::array({"no", "yes"}));
  CHECK(report.at("parity").at("rows").get<int>() >= 1000);
  for (const char* from : {"valid", "train", "perturbed", "missing", "unknown", "extreme"})
    CHECK_MESSAGE(report.at("parity").at("from").at(from).get<int>() > 0, from);
  CHECK(has(rig.progress.metrics, "cut"));
}

TEST_CASE("a scikit-learn pipeline takes the same path") {
  TrainingRig rig;
  const SliceOutcome outcome = rig.run(R"(
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

def train(ctx):
    column = lambda rows: np.column_stack([rows["x"]]).astype(np.float32)
    fitted = make_pipeline(SimpleImputer(), LogisticRegression()).fit(
        column(ctx.train), ctx.labels(ctx.train))
    made = to_onnx(fitted, initial_types=[("x", FloatTensorType([None, 1]))],
                   options={"zipmap": False})
    del made.graph.output[0]
    path = os.path.join(ctx.scratch, "m.onnx")
    open(path, "wb").write(made.SerializeToString())
    return ctx.result(onnx=path, predict=lambda rows: fitted.predict_proba(column(rows)))
)");
  REQUIRE_MESSAGE(outcome.result.has_value(), (outcome.result.error().message + rig.log));
  CHECK(outcome.result->finished);
}

TEST_CASE("who predicts other than the model is refused, with the row") {
  TrainingRig rig;
  const Error lie = rig.error(R"(
def extra(ctx, rows):
    off = np.where(rows["x"] > 0.9, 0.01, 0)
    return np.stack([-off, off], axis=1)
)");
  CHECK(lie.reason == reason::kParityFailed);
  CHECK(has(lie.message, R"("output":"probabilities")"));
  CHECK(has(lie.message, R"("kind":)"));
  // One row alone, of those that nobody has seen.
  const Error unseen = rig.error(R"(
def extra(ctx, rows):
    return np.where(rows["kind"] == "mayfly never saw this", 0.02, 0)[:, None]
)");
  CHECK(unseen.reason == reason::kParityFailed);
  CHECK(has(unseen.message, R"("from":"unknown")"));
}

TEST_CASE("what is no result is refused in words for its author") {
  TrainingRig rig;
  const auto complaint = [&](std::string_view more) {
    const Error error = rig.error(more);
    CHECK(error.reason == reason::kFunctionError);
    return error.message;
  };
  CHECK(has(complaint("def train(ctx): return 3"), "returns ctx.result(onnx=PATH"));
  CHECK(has(complaint("train = None"), "has no function train(ctx)"));
  CHECK(has(complaint("def train(ctx): raise ValueError('no luck')"), "no luck"));
  CHECK(has(complaint("def extra(ctx, rows): return np.array([[object()] * 2] * rows.rows)"),
            "TypeError"));
  CHECK(has(complaint("def train(ctx): return ctx.result(onnx='/no.onnx', predict=len)"),
            "there is no such file"));
  CHECK(has(complaint("def teller(ctx, cut): return lambda rows: np.zeros(3)"),
            "gave 'probabilities' [3]"));
  CHECK(
      has(complaint("def teller(ctx, cut): return lambda rows: os._exit(0)"), "without a result"));
}

TEST_CASE("what a training leaves leads nowhere else, and pickles stay unread") {
  TrainingRig rig;
  const auto after = [&](std::string_view code) {
    return rig.error(fmt::format(R"(
def teller(ctx, cut):
    def predict(rows):
        made = "/work/made/model.onnx"
        {}
        return np.full((rows.rows, 2), 0.5)
    return predict
)",
                                 code));
  };
  CHECK(has(after("os.unlink(made); os.symlink('/etc/passwd', made)").message,
            "Operation not permitted"));  // the jail's own answer
  CHECK(has(after("os.path.isdir(made) or (os.unlink(made), os.mkdir(made))").message,
            "'model.onnx' cannot be taken"));
  CHECK(after("f = open(made, 'r+b'); f.seek(3 << 30); f.write(b'x'); f.close()").reason ==
        reason::kTooLarge);
  CHECK(has(after("open('/work/made/more', 'w').close()").message, "none of a training's"));
  const Error pickle = after("import pickle; pickle.dump(os.system, open(made, 'wb'))");
  CHECK(pickle.reason == reason::kInvalidInput);
  CHECK(has(pickle.message, "the model cannot be opened"));
  CHECK(has(after("made and np.save('/work/made/value.npy', np.array([os.getcwd], dtype=object), "
                  "allow_pickle=False)")
                .message,
            "Object arrays cannot be saved"));
}

TEST_CASE("a training sees no test row, wherever it looks") {
  TrainingRig rig;
  rig.write_rows("test", 50);
  const SliceOutcome outcome = rig.run();
  REQUIRE_FALSE(outcome.result.has_value());  // the platform's own mistake
  CHECK(has(outcome.result.error().message, "test split"));
  std::filesystem::remove_all(rig.dir.path() / "snapshot" / "parts" / "0" / "test");
  const Error found = rig.error(R"(
def train(ctx):
    seen = [os.path.join(folder, name) for top in ("/data", "/source", "/work")
            for folder, folders, files in os.walk(top) for name in folders + files]
    assert any("/train" in path for path in seen)
    raise ValueError(f"{sum('test' in path for path in seen)} of the test split")
)");
  CHECK(has(found.message, "0 of the test split"));
}

TEST_CASE("a training that was stopped goes on from its checkpoint") {
  TrainingRig rig;
  rig.stop_at_checkpoint = true;
  constexpr std::string_view kSteps = R"(
once = train
def train(ctx):
    folder = ctx.restore()
    step = int(open(os.path.join(folder, "step")).read()) if folder else 0
    mine = os.path.join(ctx.scratch, "mine")
    os.makedirs(mine)
    while step < 3:
        step += 1
        open(os.path.join(mine, "step"), "w").write(str(step))
        ctx.checkpoint(mine)
    return once(ctx)
)";
  for (int slice = 1; slice <= 3; ++slice) {
    rig.stop.emplace();
    const SliceOutcome outcome = rig.run(kSteps);
    REQUIRE_MESSAGE(outcome.result.has_value(), (outcome.result.error().message + rig.log));
    CHECK(outcome.result->finished == false);
    CHECK(rig.record.slices == static_cast<std::uint32_t>(slice));
  }
  rig.stop_at_checkpoint = false;
  rig.stop.emplace();
  const SliceOutcome outcome = rig.run(kSteps);
  REQUIRE_MESSAGE(outcome.result.has_value(), (outcome.result.error().message + rig.log));
  CHECK(outcome.result->finished);
}
