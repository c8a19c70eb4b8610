// Rows that are stored already, taken in once more: without some of them, or split anew.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runner/dataset/npy.h"
#include "runner/ingest/ingest.h"
#include "runner/ingest/testing/taken.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

// A snapshot becomes the base of another ingest, whose part is its only one.
void base_on(const Taken& before, Taken& next) {
  const Path base = next.source() / "base";
  REQUIRE(make_directories(base / "parts").has_value());
  for (const char* name : {"schema.json", "sketches.bin"})
    std::filesystem::copy_file(before.work() / "snapshot" / name, base / name);
  std::filesystem::copy(before.work() / "part", base / "parts" / "0",
                        std::filesystem::copy_options::recursive);
}

// Rows of every type, some without values.
std::string mixed_rows(int from, int to) {
  std::string text = "id,x,day,colour,words\n";
  for (int i = from; i < to; ++i) {
    text += fmt::format("{},{},{},{},{}\n", i, i % 7 == 0 ? "" : fmt::format("{}.5", i),
                        i % 5 == 0 ? "" : fmt::format("2024-01-{:02}", 1 + i % 28),
                        i % 3 == 0 ? "red" : "blue",
                        i % 11 == 0 ? "" : fmt::format("word {} of many", i));
  }
  return text;
}

IngestOptions mixed_options() {
  IngestOptions options;
  options.types = {{"words", ColumnType::Text}};
  return options;
}

Taken without(const Taken& before, std::string_view file) {
  Taken next(file);
  next.job.mode = IngestMode::Without;
  base_on(before, next);
  next.run();
  return next;
}

}  // namespace

TEST_CASE("rows that a file names are left out, and all others are as they were") {
  Taken all(mixed_rows(0, 400), mixed_options());
  all.run();
  const Taken fewer = without(all, "id\n7\n11\n399\n");
  REQUIRE_MESSAGE(!fewer.report.refused, fewer.report.refused->message);
  CHECK(fewer.report.removed == 3);
  CHECK(fewer.report.notes.empty());
  // As if they had never been there: every row is in its split, and every figure is anew.
  std::string rest = "id,x,day,colour,words\n";
  for (const auto& [from, to] : {std::pair{0, 7}, {8, 11}, {12, 399}})
    rest += mixed_rows(from, to).substr(rest.find('\n') + 1);
  Taken never(rest, mixed_options());
  never.run();
  CHECK(fewer.schema == never.schema);
  for (std::size_t i = 0; i < never.statistics.size(); ++i) {
    // Quantiles and means depend a little on the order in which rows are seen.
    for (const char* figure :
         {"name", "type", "count", "missing", "distinct", "min", "max", "top"}) {
      CAPTURE(figure);
      CHECK(fewer.statistics[i].contains(figure) == never.statistics[i].contains(figure));
      if (never.statistics[i].contains(figure))
        CHECK(fewer.statistics[i][figure] == never.statistics[i][figure]);
    }
  }
  for (const char* split : {"train", "valid", "test"}) {
    for (const char* file :
         {"row.npy", "c0.npy", "c1.npy", "c2.npy", "c3.npy", "c4.offsets.npy", "c4.text"}) {
      CAPTURE(file);
      CHECK(content_of(fewer.work() / "part" / split / file) ==
            content_of(never.work() / "part" / split / file));
    }
  }
}

TEST_CASE("rows are named by all columns that the file has, and each line must name something") {
  Taken all("who,day,note\nann,1,x\nann,2,x\nbob,1,y\nbob,2,\n", unsplit());
  all.run();
  const Taken both = without(all, "day,who\n2,ann\n1,bob\n3,bob\n1,eve\n");
  REQUIRE_MESSAGE(!both.report.refused, both.report.refused->message);
  CHECK(both.report.removed == 2);
  REQUIRE(both.report.notes.size() == 1);
  CHECK(both.report.notes[0].contains("2 of 4 lines name no row"));
  CHECK(both.column<std::int64_t>("day") == std::vector<std::int64_t>{1, 2});
  const Taken empty_note = without(all, "who,note\nbob,\n");
  CHECK(empty_note.report.removed == 1);
  for (const auto& [file, wanted] : {std::pair{"id\n1\n", "has no column 'id'"},
                                     {"who\neve\n", "no row has the values"},
                                     {"day\nx\n", "(line 2)"},
                                     {"who,day\nann\n", "(line 2)"},
                                     {"day\n1\n2\n", "all rows would go"},
                                     {"day,note\n1,x\n,NA\n", "(line 3)"}}) {
    CAPTURE(file);
    const Taken refused = without(all, file);
    REQUIRE(refused.report.refused.has_value());
    CHECK(refused.report.refused->message.contains(wanted));
    CHECK(refused.report.refused->message.contains("nothing is erased"));
  }
}

TEST_CASE("what is appended to a split by time follows its boundary, until that is moved") {
  const auto day = [](int n) { return fmt::format("2024-{:02}-{:02}", 1 + n / 28, 1 + n % 28); };
  const auto rows = [&](int from, int to) {
    std::string text = "day,x\n";
    for (int i = from; i < to; ++i) text += fmt::format("{},{}\n", day(i), i);
    return text;
  };
  IngestOptions options;
  options.split = {.by = SplitBy::Time, .column = "day"};
  Taken first(rows(0, 100), options);
  first.run();
  CHECK(first.report.test > 15);
  Taken later(rows(100, 200), options);
  later.job.mode = IngestMode::Append;
  base_on(first, later);
  later.run();
  REQUIRE_MESSAGE(!later.report.refused, later.report.refused->message);
  CHECK(later.report.test == 100);
  CHECK(later.schema.split == first.schema.split);
  Taken moved(rows(100, 200), options);
  moved.job.mode = IngestMode::Rebuild;
  base_on(first, moved);
  moved.run();
  REQUIRE_MESSAGE(!moved.report.refused, moved.report.refused->message);
  CHECK(moved.report.train + moved.report.valid + moved.report.test == 200);
  CHECK(moved.report.test > 35);
  CHECK(moved.report.test < 45);
  CHECK(moved.schema.split.test_from > first.schema.split.test_from);
  CHECK(moved.statistics[1]["count"] == 200);
  // An old test row may be trained on now, a new one never was.
  const auto trained = NpyColumn::open(moved.work() / "part/train/c1.npy");
  REQUIRE(trained.has_value());
  CHECK(std::ranges::count(trained->as<std::int64_t>(), 95) == 1);
}

TEST_CASE("stored columns that no ingest wrote are refused") {
  Taken all(mixed_rows(0, 50), mixed_options());
  all.run();
  for (const char* file : {"c0.npy", "c3.npy", "c4.offsets.npy", "c4.text", "row.npy"}) {
    Taken next("id\n1\n");
    next.job.mode = IngestMode::Without;
    base_on(all, next);
    const Path path = next.source() / "base/parts/0/train" / file;
    std::filesystem::permissions(path, std::filesystem::perms::owner_write,
                                 std::filesystem::perm_options::add);
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 8);
    CAPTURE(file);
    CHECK_FALSE(run_ingest(-1, next.job, {.source = next.source(), .work = next.work()}));
  }
}
