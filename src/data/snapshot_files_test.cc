// What jails are given of snapshots, and whose looks at test rows count together.
#include "data/snapshot_files.h"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "runner/report/dataset_schema.h"
#include "store/local_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

struct Shelf {
  DatasetFile keep(std::string path, const std::string& content) const {
    const auto to = blobs->create().value();
    REQUIRE(to->append(std::as_bytes(std::span(content))).has_value());
    const BlobInfo info = to->commit().value();
    return {.path = std::move(path), .digest = info.digest, .size = info.size};
  }

  SnapshotRecord put(std::uint32_t parent, std::optional<std::int64_t> test_from) {
    DatasetSchema schema{
        .columns = {{.name = "x"}, {.name = "y"}}, .target = "y", .event_time = {}, .split = {}};
    if (test_from) {
      schema.split.by = SplitBy::Time;
      schema.split.column = "x";
      schema.split.test_from = test_from;
    }
    const DatasetRecord dataset =
        store->ensure({.project = "team", .name = "d", .caller = "me", .key = {.k0 = 1, .k1 = 2}})
            .value();
    std::vector<DatasetFile> part;
    for (const char* path : {"train/row.npy", "train/c0.npy", "train/c1.npy", "valid/row.npy",
                             "valid/c0.npy", "test/row.npy", "test/c0.npy", "test/c1.npy"})
      part.push_back(keep(path, path));
    const std::string number = std::to_string(dataset.latest);
    const auto made = store->commit(
        {.snapshot = {.dataset = dataset.id,
                      .kind = parent > 0 ? SnapshotKind::Append : SnapshotKind::Put,
                      .parent = parent,
                      .job = "ingest-" + number,
                      .rows = {.train = 7, .valid = 1, .test = 2},
                      .report = "{}",
                      .sources = "[]"},
         .part = std::move(part),
         .files = {keep("schema.json", to_json(schema)), keep("statistics.json", number)},
         .whole = parent == 0,
         .limit = {}});
    REQUIRE_MESSAGE(made.has_value(), made.error().message);
    return *made;
  }

  std::vector<std::string> mounted(const SnapshotRecord& snapshot, SnapshotFiles::Shows shows) {
    std::vector<std::string> paths;
    const auto files = of.to_score(
        snapshot,
        {.split = Split::Test, .columns = {"y"}, .target = "y", .looker = "job", .shows = shows});
    REQUIRE(files.has_value());
    for (const SourceFile& file : *files) paths.push_back(file.file.path);
    return paths;
  }

  TempDir dir = *TempDir::create();
  std::unique_ptr<LocalBlobStore> blobs = LocalBlobStore::open(made("blobs"), made("tmp")).value();
  std::unique_ptr<DatasetStore> store = *DatasetStore::open(dir.path() / "datasets.db");
  SnapshotFiles of{*store, *blobs};

 private:
  Path made(const char* name) const {
    REQUIRE(make_directories(dir.path() / name).has_value());
    return dir.path() / name;
  }
};

}  // namespace

TEST_CASE("looks at all snapshots of a dataset count together, but those at other test rows") {
  SUBCASE("rows keep their split, whatever is appended") {
    Shelf shelf;
    const SnapshotRecord first = shelf.put(0, {});
    CHECK(*shelf.of.count_look(first, "a", {}) == 1);
    const SnapshotRecord second = shelf.put(1, {});
    CHECK(*shelf.of.count_look(second, "b", {}) == 2);
    CHECK(*shelf.of.count_look(second, "b", {}) == 2);
    CHECK(*shelf.of.count_look(first, "a", {}) == 1);
    CHECK(*shelf.of.count_look(first, "c", {}) == 3);
    CHECK(shelf.of.looks(second)->size() == 3);
  }
  SUBCASE("of a split by time, a boundary that moved leaves other rows") {
    Shelf shelf;
    const SnapshotRecord first = shelf.put(0, 100);
    CHECK(*shelf.of.count_look(first, "a", {}) == 1);
    const SnapshotRecord same = shelf.put(1, 100);
    CHECK(*shelf.of.count_look(same, "b", {}) == 2);
    const SnapshotRecord later = shelf.put(2, 200);
    CHECK(*shelf.of.count_look(later, "c", {}) == 1);
    CHECK(shelf.of.looks(later)->size() == 1);
    CHECK(shelf.of.looks(first)->size() == 2);
  }
}

TEST_CASE("features of test rows alone are shown without a look, and without their answers") {
  Shelf shelf;
  const SnapshotRecord snapshot = shelf.put(0, {});
  CHECK(shelf.mounted(snapshot, SnapshotFiles::Shows::Features) ==
        std::vector<std::string>{"schema.json", "parts/0/test/c0.npy", "parts/0/test/row.npy"});
  CHECK(shelf.of.looks(snapshot)->empty());
  CHECK(shelf.mounted(snapshot, SnapshotFiles::Shows::Answers).size() == 6);
  CHECK(shelf.of.looks(snapshot)->size() == 1);
}
