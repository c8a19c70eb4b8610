// A slice of batch prediction for real: mayfly-runner's jail, libmayfly-batch.so, Arrow.
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "async/event.h"
#include "async/loop.h"
#include "core/json_reader.h"
#include "core/python_version.h"
#include "runner/report/batch_job.h"
#include "sandbox/process_spawner.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

std::string content(const Path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The server's half: y = a + b.
struct TableNode {
  TableNode() {
    const Path beside = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    for (const Path& folder : {source(), work()}) {
      REQUIRE(make_directories(folder).has_value());
      std::filesystem::permissions(folder, std::filesystem::perms(0755));
    }
    std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
    ProcessSpawnerOptions options;
    options.runner = beside / "mayfly-runner";
    options.python.libraries = kSystemLibraries;
    options.tables = beside.parent_path() / "lib" / "mayfly" / "batch";
    options.on_log = [](std::string_view, std::string_view line) { MESSAGE(line); };
    auto made = ProcessSpawner::create(loop, std::move(options));
    REQUIRE(made.has_value());
    spawner = *std::move(made);
    REQUIRE(loop.run(ready()).has_value());
  }

  Path source() const { return dir.path() / "source"; }
  Path work() const { return dir.path() / "work"; }

  void write_input(std::string_view text) const {
    std::ofstream(source() / "input", std::ios::binary) << text;
    std::filesystem::permissions(source() / "input", std::filesystem::perms(0644));
  }

  Task<Status> ready() {
    Future<Status> ready(loop);
    spawner->on_ready(
        [promise = ready.promise()](Status status) mutable { promise.set(std::move(status)); });
    co_return co_await ready;
  }

  void answer(std::string_view text) {
    const auto message = parse_worker_message(text);
    REQUIRE(message.has_value());
    const auto* predict = std::get_if<PredictMessage>(&*message);
    if (predict == nullptr) return;
    const std::string body = content(work() / fmt::format("predict-{}", predict->slot));
    REQUIRE(body.size() >= predict->bytes);
    std::vector<float> rows(predict->rows * 2);
    REQUIRE(predict->header + rows.size() * sizeof(float) == predict->bytes);
    std::memcpy(rows.data(), body.data() + predict->header, rows.size() * sizeof(float));
    std::vector<float> sums;
    for (std::size_t i = 0; i < rows.size(); i += 2) sums.push_back(rows[i] + rows[i + 1]);
    std::string reply = Json{{"outputs",
                              {{{"name", "y"},
                                {"datatype", "FP32"},
                                {"shape", {predict->rows}},
                                {"parameters", {{"binary_data_size", sums.size() * 4}}}}}}}
                            .dump();
    const std::uint64_t header = reply.size();
    reply.append(reinterpret_cast<const char*>(sums.data()), sums.size() * 4);
    Fd memory(::memfd_create("reply", MFD_CLOEXEC));
    REQUIRE(write_all(memory.get(), reply).has_value());
    job->send(to_json(BatchAnswer{.slot = predict->slot, .bytes = reply.size(), .header = header}),
              std::move(memory));
  }

  Task<Result<JobEnd>> run(std::string request) {
    Future<Result<JobEnd>> ended(loop);
    JobEvents events;
    events.on_progress = [this](std::string_view text) { answer(text); };
    events.on_end = [promise = ended.promise()](Result<JobEnd> end) mutable {
      promise.set(std::move(end));
    };
    JobSpec spec{.label = "batch",
                 .runtime = RuntimeKind::Tables,
                 .source = source(),
                 .work = work(),
                 .request = std::move(request),
                 .max_messages = 100'000,
                 .memory = mib(512)};
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
};

BatchJob sum_job(TableFormat format, TableFormat output) {
  BatchJob job;
  job.input = "input";
  job.format = format;
  job.output_format = output;
  job.chunk_rows = 1000;
  job.signature = {.inputs = {{"x", DataType::Fp32, {-1, 2}}},
                   .outputs = {{"y", DataType::Fp32, {-1}}}};
  return job;
}

}  // namespace

TEST_CASE("a table's rows are predicted and joined by jobs in jails") {
  TableNode node;
  std::string text = "x_0,x_1\n";
  std::string expected = "y\n";
  for (int i = 0; i < 5000; ++i) {
    text += fmt::format("{},1\n", i);
    expected += fmt::format("{}\n", i + 1);
  }
  for (const TableFormat output : {TableFormat::Csv, TableFormat::Parquet}) {
    node.write_input(text);
    const auto ended = node.loop.run(node.run(to_json(sum_job(TableFormat::Csv, output))));
    REQUIRE_MESSAGE(ended.has_value(), ended.error().message);
    CHECK(ended->exit.code == 0);
    CHECK(ended->exit.signal == 0);
    const auto end = parse_slice_end(content(node.work() / "slice.json"));
    REQUIRE(end.has_value());
    CHECK(end->finished);
    CHECK(end->rows == 5000);
    if (output == TableFormat::Csv) {
      CHECK(content(node.work() / "part") == expected);
      continue;
    }
    // Parquet back to text: what was written is what the next job reads.
    std::filesystem::copy_file(node.work() / "part", node.source() / "input",
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::permissions(node.source() / "input", std::filesystem::perms(0644));
    auto again = sum_job(TableFormat::Parquet, TableFormat::Csv);
    again.columns = {{"x", {"y", "y"}}};
    const auto read = node.loop.run(node.run(to_json(again)));
    REQUIRE_MESSAGE(read.has_value(), read.error().message);
    CHECK(content(node.work() / "part").ends_with("\n10000\n"));
  }
  const MergeJob merge{.parts = 2, .output_format = TableFormat::Csv};
  for (const std::uint32_t number : {1U, 2U}) {
    for (const auto& [name, bytes] :
         {std::pair(part_name(number), "y\n1\n"), std::pair(errors_name(number), "")}) {
      std::ofstream(node.source() / name) << bytes;
      std::filesystem::permissions(node.source() / name, std::filesystem::perms(0644));
    }
  }
  const auto merged = node.loop.run(node.run(to_json(merge)));
  REQUIRE_MESSAGE(merged.has_value(), merged.error().message);
  CHECK(content(node.work() / "output") == "y\n1\n1\n");
}
