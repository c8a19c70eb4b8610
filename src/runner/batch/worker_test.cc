#include "runner/batch/worker.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/testing/fake_clock.h"
#include "core/json_reader.h"
#include "core/reason.h"
#include "runner/batch/testing/tables.h"
#include "sandbox/pass_descriptors.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

// The server's side: y = a + b for each row, but for rows whose a is negative.
class FakeServer {
 public:
  FakeServer(int socket, Path work) : socket_(socket), work_(std::move(work)) {}

  std::size_t most_in_flight = 0;
  std::vector<std::uint64_t> asked_rows;
  std::uint32_t delay_answers_to = 1;  // answers only when so many are in flight, or nothing comes
  std::function<std::optional<BatchAnswer>(std::size_t number)> answer_instead;
  std::optional<std::size_t> stop_after;  // requests

  void serve() {
    std::vector<PredictMessage> waiting;
    while (true) {
      pollfd ready{.fd = socket_, .events = POLLIN, .revents = 0};
      ::poll(&ready, 1, waiting.empty() ? -1 : 20);
      if (ready.revents != 0) {
        std::array<char, 16 * 1024> text;
        const ssize_t got = ::recv(socket_, text.data(), text.size(), 0);
        if (got <= 0) return;
        const auto message = parse_worker_message({text.data(), static_cast<std::size_t>(got)});
        REQUIRE(message.has_value());
        const auto* predict = std::get_if<PredictMessage>(&*message);
        if (predict == nullptr) continue;
        waiting.push_back(*predict);
        asked_rows.push_back(predict->rows);
        if (stop_after == asked_rows.size()) send(StopBatch{}, {});
        most_in_flight = std::max(most_in_flight, waiting.size());
        if (waiting.size() < delay_answers_to) continue;
      }
      // The newest first: order is the worker's business.
      if (!waiting.empty()) {
        answer(waiting.back());
        waiting.pop_back();
      }
    }
  }

 private:
  void send(const ServerMessage& message, const Fd& body) {
    std::string text = to_json(message);
    iovec part{.iov_base = text.data(), .iov_len = text.size()};
    const int number = body.get();
    std::ignore =
        send_with_descriptors(socket_, std::span(&part, 1), std::span(&number, body ? 1 : 0));
  }

  void answer(const PredictMessage& predict) {
    if (answer_instead) {
      if (auto other = answer_instead(answered_++)) {
        other->slot = predict.slot;
        return send(*other, {});
      }
    }
    const std::string body = text_of_file(work_ / fmt::format("predict-{}", predict.slot));
    REQUIRE(body.size() >= predict.bytes);
    std::vector<float> rows(predict.rows * 2);
    REQUIRE(predict.bytes - predict.header == rows.size() * sizeof(float));
    std::memcpy(rows.data(), body.data() + predict.header, rows.size() * sizeof(float));
    std::vector<float> sums;
    for (std::size_t i = 0; i < rows.size(); i += 2) {
      if (rows[i] < 0) {
        return send(BatchAnswer{.slot = predict.slot,
                                .status = 400,
                                .reason = std::string(reason::kModelError),
                                .error = "negative"},
                    {});
      }
      sums.push_back(rows[i] + rows[i + 1]);
    }
    std::string reply = Json{{"outputs",
                              {{{"name", "y"},
                                {"datatype", "FP32"},
                                {"shape", {predict.rows}},
                                {"parameters", {{"binary_data_size", sums.size() * 4}}}}}}}
                            .dump();
    const std::uint64_t header = reply.size();
    reply.append(reinterpret_cast<const char*>(sums.data()), sums.size() * 4);
    const Fd memory(::memfd_create("reply", MFD_CLOEXEC));
    REQUIRE(write_all(memory.get(), reply).has_value());
    send(BatchAnswer{.slot = predict.slot, .bytes = reply.size(), .header = header}, memory);
  }

  int socket_;
  Path work_;
  std::size_t answered_ = 0;
};

struct Slice {
  Slice() : server(pair.theirs.get(), work()) {
    REQUIRE(make_directories(source()).has_value());
    REQUIRE(make_directories(work()).has_value());
  }

  Path source() const { return dir.path() / "source"; }
  Path work() const { return dir.path() / "work"; }

  SliceEnd run(const BatchJob& job) {
    std::jthread other([this] { server.serve(); });
    const Status done = run_batch(pair.ours.get(), job, {source(), work()}, clock);
    ::shutdown(pair.ours.get(), SHUT_RDWR);
    other.join();
    REQUIRE_MESSAGE(done.has_value(), done.error().message);
    const auto end = parse_slice_end(text_of_file(work() / "slice.json"));
    REQUIRE(end.has_value());
    return *end;
  }

  SliceEnd run(const BatchJob& job, std::string_view text) {
    write_input(source(), job, text);
    return run(job);
  }

  std::string part() const { return text_of_file(work() / "part"); }
  std::string errors() const { return text_of_file(work() / "errors.jsonl"); }

  TempDir dir = *TempDir::create();
  SocketPair pair = *make_seqpacket_pair();
  FakeClock clock;
  FakeServer server;
};

std::string pairs(int rows) {
  std::string text = "a,b\n";
  for (int i = 0; i < rows; ++i) text += fmt::format("{},1\n", i);
  return text;
}

std::string sums(int rows) {
  std::string text = "y\n";
  for (int i = 0; i < rows; ++i) text += fmt::format("{}\n", i + 1);
  return text;
}

}  // namespace

TEST_CASE("predictions are written in the rows' order, however answers come") {
  Slice slice;
  auto job = pair_job(TableFormat::Csv);
  job.chunk_rows = 10;
  job.window = 3;
  slice.server.delay_answers_to = 3;
  const SliceEnd end = slice.run(job, pairs(95));
  CHECK(end.finished);
  CHECK(end.rows == 95);
  CHECK(end.failed == 0);
  CHECK(slice.part() == sums(95));
  CHECK(slice.server.most_in_flight == 3);
  CHECK(slice.server.asked_rows.size() == 10);
}

TEST_CASE("a chunk that fails is halved down to the rows to blame") {
  Slice slice;
  auto job = pair_job(TableFormat::Csv);
  job.keep.all = true;
  const SliceEnd end = slice.run(job, "a,b\n1,1\n2,1\n-3,1\n4,1\nx,1\n6,1\n");
  CHECK(end.finished);
  CHECK(end.rows == 6);
  CHECK(end.failed == 2);
  CHECK(slice.part() == "a,b,y\n1,1,2\n2,1,3\n-3,1,\n4,1,5\nx,1,\n6,1,7\n");
  CHECK(slice.errors() ==
        "{\"row\":3,\"reason\":\"model_error\",\"error\":\"negative\"}\n"
        "{\"row\":5,\"reason\":\"invalid_input\",\"error\":\"column 'a': 'x' is no FP32\","
        "\"input\":\"x,1\"}\n");
}

TEST_CASE("a slice that is stopped goes on where it ended") {
  Slice slice;
  auto job = pair_job(TableFormat::Csv);
  job.chunk_rows = 10;
  job.window = 1;
  slice.server.stop_after = 3;
  const SliceEnd end = slice.run(job, pairs(95));
  CHECK_FALSE(end.finished);
  CHECK_FALSE(end.refused.has_value());
  CHECK(end.rows == 30);
  Slice rest;
  job.position = end.position;
  const SliceEnd last = rest.run(job, pairs(95));
  CHECK(last.finished);
  CHECK(slice.part() + rest.part().substr(2) == sums(95));
}

TEST_CASE("a slice whose time is over ends behind a chunk, and has at least one") {
  Slice slice;
  auto job = pair_job(TableFormat::Csv);
  job.chunk_rows = 10;
  job.slice = Duration(0);
  const SliceEnd end = slice.run(job, pairs(95));
  CHECK_FALSE(end.finished);
  CHECK(end.rows >= 10);
  CHECK(end.rows < 95);
}

TEST_CASE("a fatal answer ends the slice before its rows, and is told on") {
  Slice slice;
  auto job = pair_job(TableFormat::Csv);
  job.chunk_rows = 10;
  job.window = 1;
  slice.server.answer_instead = [](std::size_t number) -> std::optional<BatchAnswer> {
    if (number < 2) return std::nullopt;
    return BatchAnswer{
        .status = 404, .reason = "unknown_function", .error = "it is gone", .fatal = true};
  };
  const SliceEnd end = slice.run(job, pairs(95));
  CHECK(end.rows == 20);
  REQUIRE(end.refused.has_value());
  CHECK(*end.refused == Refusal{"unknown_function", "it is gone"});
}

TEST_CASE("more failed rows than may be end the job, and are listed") {
  Slice slice;
  auto job = pair_job(TableFormat::Csv);
  job.chunk_rows = 2;
  job.max_errors = 3;
  job.errors_so_far = 2;
  const SliceEnd end = slice.run(job, "a,b\n1,1\nx,1\n2,1\ny,1\n3,1\n4,1\n");
  REQUIRE(end.refused.has_value());
  CHECK(end.refused->reason == reason::kInvalidInput);
  CHECK(end.refused->message.find("more than 3 rows failed") != std::string::npos);
  CHECK(slice.errors().find("'y' is no FP32") != std::string::npos);
}

TEST_CASE("columns that do not fit end the job with the reason") {
  Slice slice;
  const SliceEnd end = slice.run(pair_job(TableFormat::Csv), "a\n1\n");
  REQUIRE(end.refused.has_value());
  CHECK(end.refused->message.find("The file has 1 columns: a") != std::string::npos);
}

TEST_CASE("requests are no larger than they may be, and a row that is fails") {
  Slice slice;
  auto job = pair_job(TableFormat::Csv);
  job.max_request = Bytes{64 * 1024 * 2 + 80};
  const SliceEnd end = slice.run(job, pairs(20'000));
  CHECK(end.finished);
  CHECK(slice.part() == sums(20'000));
  CHECK(*std::ranges::max_element(slice.server.asked_rows) * 8 <= 64 * 1024 + 80);
}

TEST_CASE("all formats of output, joined from slices") {
  for (const TableFormat format : {TableFormat::Csv, TableFormat::Jsonl, TableFormat::Parquet}) {
    CAPTURE(to_string(format));
    const TempDir dir = *TempDir::create();
    const Path source = dir.path() / "source";
    const Path work = dir.path() / "work";
    REQUIRE(make_directories(source).has_value());
    REQUIRE(make_directories(work).has_value());
    auto job = pair_job(TableFormat::Csv);
    job.output_format = format;
    job.chunk_rows = 10;
    job.window = 1;
    job.keep.all = true;
    MergeJob merge{.parts = 0, .output_format = format};
    for (int i = 0; i < 3; ++i) {
      Slice slice;
      if (i < 2) slice.server.stop_after = 2;
      const SliceEnd end = slice.run(job, pairs(45) + "x,1\n");
      job.position = end.position;
      ++merge.parts;
      std::filesystem::copy(slice.work() / "part", source / part_name(merge.parts));
      std::filesystem::copy(slice.work() / "errors.jsonl", source / errors_name(merge.parts));
    }
    const Status merged = run_merge(merge, {source, work});
    REQUIRE_MESSAGE(merged.has_value(), merged.error().message);
    CHECK(text_of_file(work / "errors.jsonl").find("\"row\":46") != std::string::npos);
    // The output read again: as input of a function that takes its third column.
    auto again = pair_job(format);
    again.input = "output";
    again.signature.inputs = {{"y", DataType::Fp32, {-1}}};
    const auto read = read_table(work, again);
    REQUIRE_MESSAGE(read.has_value(), read.error().message);
    CHECK(read->rows == 46);
    REQUIRE(read->floats.size() == 45);
    CHECK(read->floats[44] == 45);
    CHECK(read->failures.size() == 1);
  }
}

TEST_CASE("thousands of parts are joined in their order") {
  const TempDir dir = TempDir::create().value();
  const Path source = dir.path() / "source";
  const Path work = dir.path() / "work";
  REQUIRE(make_directories(source).has_value());
  REQUIRE(make_directories(work).has_value());
  const MergeJob merge{.parts = 5000, .output_format = TableFormat::Csv};
  std::string output = "y\n";
  std::string errors;
  for (std::uint32_t number = 1; number <= merge.parts; ++number) {
    const std::string error = fmt::format("{{\"row\":{}}}\n", number);
    std::ofstream(source / part_name(number)) << "y\n" << number << "\n";
    std::ofstream(source / errors_name(number)) << error;
    output += fmt::format("{}\n", number);
    errors += error;
  }
  REQUIRE(run_merge(merge, {source, work}).has_value());
  CHECK(text_of_file(work / "output") == output);
  CHECK(text_of_file(work / "errors.jsonl") == errors);
}
