#include "serving/statistics.h"

#include <string>

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

InvocationTimes times(Duration run) {
  return {.whole = run + 6ms,
          .decode = 1ms,
          .encode = 2ms,
          .timing = {.queue = 1ms, .start = 2ms, .run = run, .cpu = run}};
}

}  // namespace

TEST_CASE("each version is counted for itself, and time goes where it was spent") {
  Statistics statistics;
  const WallTime at{5s};
  statistics.add("iris", {1}, at, 1, Statistics::Ended::Well, times(10ms));
  statistics.add("iris", {1}, at + 1s, 4, Statistics::Ended::Well, times(20ms));
  statistics.add("iris", {1}, at + 2s, 4, Statistics::Ended::Badly, times(0ms));
  statistics.add("iris", {2}, at, 1, Statistics::Ended::Well, times(1ms));
  const VersionStatistics* first = statistics.find("iris", {1});
  REQUIRE(first != nullptr);
  CHECK(first->last == at + 2s);
  CHECK(first->rows == 5);
  CHECK(first->executions == 2);
  CHECK(first->success.count == 2);
  CHECK(first->success.total == 42ms);
  CHECK(first->fail.count == 1);
  CHECK(first->queue.total == 6ms);
  CHECK(first->decode.total == 2ms);
  CHECK(first->run.total == 30ms);
  CHECK(first->encode.total == 4ms);
  CHECK(first->by_rows.at(4).run.total == 20ms);
  CHECK(statistics.find("iris", {2})->success.count == 1);
  CHECK(statistics.find("iris", {3}) == nullptr);
}

TEST_CASE("a batch is one execution, of all its rows") {
  Statistics statistics;
  InvocationTimes leads = times(2ms);
  leads.batch_rows = 5;
  leads.batch_run = 10ms;
  InvocationTimes beside = leads;
  beside.ran = InvocationTimes::Ran::Beside;
  statistics.add("iris", {1}, {}, 1, Statistics::Ended::Well, leads);
  for (int i = 0; i < 4; ++i) statistics.add("iris", {1}, {}, 1, Statistics::Ended::Well, beside);
  const VersionStatistics* of = statistics.find("iris", {1});
  CHECK(of->rows == 5);
  CHECK(of->executions == 1);
  CHECK(of->run.total == 10ms);
  REQUIRE(of->by_rows.size() == 1);
  CHECK(of->by_rows.at(5).run.count == 1);
  CHECK(of->by_rows.at(5).run.total == 10ms);
}

TEST_CASE("a deleted function is forgotten with all its versions") {
  Statistics statistics;
  for (const std::uint32_t version : {1U, 2U})
    statistics.add("iris", {version}, {}, 1, Statistics::Ended::Well, times(1ms));
  statistics.add("other", {1}, {}, 1, Statistics::Ended::Well, times(1ms));
  statistics.forget("iris");
  CHECK(statistics.find("iris", {1}) == nullptr);
  CHECK(statistics.all().size() == 1);
}

TEST_CASE(
    "the version asked longest ago makes room, and rows beyond the bound are not told apart") {
  Statistics statistics;
  for (std::size_t i = 0; i < Statistics::kMost; ++i)
    statistics.add("f" + std::to_string(i), {1}, {}, i, Statistics::Ended::Well, times(1ms));
  statistics.add("f0", {1}, {}, 1, Statistics::Ended::Well, times(1ms));
  statistics.add("new", {1}, {}, 1, Statistics::Ended::Well, times(1ms));
  CHECK(statistics.all().size() == Statistics::kMost);
  CHECK(statistics.find("f0", {1}) != nullptr);
  CHECK(statistics.find("f1", {1}) == nullptr);
  for (std::uint64_t rows = 0; rows < 2 * Statistics::kMostRows; ++rows)
    statistics.add("new", {1}, {}, rows, Statistics::Ended::Well, times(1ms));
  CHECK(statistics.find("new", {1})->by_rows.size() == Statistics::kMostRows);
}
