// Datasets as they are kept: numbers, appends, erasure, quotas.
#include "data/dataset_store.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/caller_reason.h"
#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

struct Kept {
  Path path() const { return dir.path() / "datasets.db"; }

  DatasetRecord dataset(std::string_view name, SplitRule split = {}) {
    const auto made = store->ensure({.project = "team",
                                     .name = std::string(name),
                                     .caller = "me",
                                     .split = std::move(split),
                                     .key = {.k0 = ~std::uint64_t{0}, .k1 = 2}});
    REQUIRE_MESSAGE(made.has_value(), made.error().message);
    return *made;
  }

  static DatasetFile file(std::string path, std::string_view content) {
    return {.path = std::move(path), .digest = sha256(content), .size = content.size()};
  }

  Result<SnapshotRecord> commit(const DatasetRecord& of, std::string job, std::string_view content,
                                std::uint32_t parent = 0, Bytes limit = {}) {
    return store->commit(
        {.snapshot = {.dataset = of.id,
                      .kind = parent > 0 ? SnapshotKind::Append : SnapshotKind::Put,
                      .parent = parent,
                      .job = std::move(job),
                      .rows = {.train = 7, .valid = 1, .test = 2},
                      .report = "{}",
                      .sources = "[]"},
         .part = {file("train/c0.npy", content), file("test/c0.npy", "the same")},
         .files = {file("schema.json", "schema"), file("statistics.json", content)},
         .whole = parent == 0,
         .limit = limit});
  }

  TempDir dir = *TempDir::create();
  std::unique_ptr<DatasetStore> store = *DatasetStore::open(path());
};

}  // namespace

TEST_CASE("a dataset keeps its key and, from its first snapshot on, its split") {
  Kept kept;
  const SplitRule by_group{.by = SplitBy::Group, .column = "g"};
  kept.dataset("a");
  CHECK(kept.dataset("a", by_group).split == by_group);
  REQUIRE(kept.commit(kept.dataset("a", by_group), "1", "x").has_value());
  const auto other = kept.store->ensure({.project = "team", .name = "a", .split = {}});
  REQUIRE_FALSE(other.has_value());
  CHECK(other.error().reason == reason::kConflict);
  kept.store = *DatasetStore::open(kept.path());
  const auto found = kept.store->find("team", "a");
  REQUIRE(found.has_value());
  CHECK(found->key.k0 == ~std::uint64_t{0});
  CHECK(found->split == by_group);
  CHECK(found->latest == 1);
  CHECK(kept.store->find("another", "a").error().reason == reason::kNotFound);
}

TEST_CASE("snapshots are numbered, and a job makes one at most") {
  Kept kept;
  const DatasetRecord a = kept.dataset("a");
  CHECK(kept.store->snapshot(a, 0).error().reason == reason::kNotFound);
  const auto first = kept.commit(a, "job-1", "x");
  REQUIRE(first.has_value());
  CHECK(first->number == 1);
  CHECK(first->bytes == 15);
  const auto again = kept.commit(a, "job-1", "x");
  REQUIRE(again.has_value());
  CHECK(again->number == 1);
  const auto second = kept.commit(a, "job-2", "x");
  REQUIRE(second.has_value());
  CHECK(second->number == 2);
  CHECK(second->digest == first->digest);
  const auto third = kept.commit(a, "job-3", "y");
  REQUIRE(third.has_value());
  CHECK(third->digest != first->digest);
  CHECK(kept.store->snapshot(a, 0)->number == 3);
  CHECK(kept.store->snapshots(a, 2)->size() == 2);
  CHECK(kept.store->snapshot_of_job("job-2").value()->number == 2);
}

TEST_CASE("what is appended stands behind the newest, or not at all") {
  Kept kept;
  const DatasetRecord a = kept.dataset("a");
  REQUIRE(kept.commit(a, "1", "x").has_value());
  const auto second = kept.commit(a, "2", "y", 1);
  REQUIRE(second.has_value());
  const auto parts = kept.store->parts(*second);
  REQUIRE(parts.has_value());
  REQUIRE(parts->size() == 2);
  CHECK((*parts)[0][1] == Kept::file("train/c0.npy", "x"));
  CHECK((*parts)[1][1] == Kept::file("train/c0.npy", "y"));
  const auto late = kept.commit(a, "3", "z", 1);
  REQUIRE_FALSE(late.has_value());
  CHECK(late.error().reason == reason::kConflict);
  CHECK(kept.store->find("team", "a")->latest == 2);
  CHECK_FALSE(kept.store->names(sha256("z")).value());
}

TEST_CASE("what is erased keeps its schema, and others keep their parts") {
  Kept kept;
  const DatasetRecord a = kept.dataset("a");
  REQUIRE(kept.commit(a, "1", "x").has_value());
  REQUIRE(kept.commit(a, "2", "y", 1).has_value());
  const auto erased = kept.store->erase(a, 1, {.by = "me", .reason = "asked for"});
  REQUIRE_MESSAGE(erased.has_value(), erased.error().message);
  CHECK(erased->shared_with == std::vector<std::uint32_t>{2});
  CHECK(erased->snapshot.erased);
  CHECK(erased->snapshot.reason == "asked for");
  CHECK(kept.store->names(sha256("x")).value());
  CHECK(kept.store->files(erased->snapshot)->size() == 1);
  CHECK(kept.store->parts(erased->snapshot)->empty());
  CHECK(kept.store->erase(a, 1, {}).error().reason == reason::kConflict);
  CHECK(kept.store->erase(a, 9, {}).error().reason == reason::kNotFound);
  REQUIRE(kept.store->erase(a, 2, {.by = "me", .reason = "all"}).has_value());
  CHECK_FALSE(kept.store->names(sha256("x")).value());
  CHECK_FALSE(kept.store->names(sha256("y")).value());
  CHECK(kept.store->names(sha256("schema")).value());
  const DatasetRecord now = *kept.store->find("team", "a");
  CHECK(kept.store->snapshot(now, 0).error().message == "'a' has no snapshot that is not erased");
  // Nothing to append to; and a new one has a new part.
  CHECK(kept.commit(a, "3", "z", 2).error().reason == reason::kConflict);
  const auto next = kept.commit(a, "4", "w");
  REQUIRE(next.has_value());
  CHECK(next->number == 3);
  CHECK(kept.store->parts(*next)->at(0).size() == 2);
}

TEST_CASE("equal files count once, and too many are refused as a whole") {
  Kept kept;
  const DatasetRecord a = kept.dataset("a");
  REQUIRE(kept.commit(a, "1", "x").has_value());
  CHECK(kept.store->bytes_of("team") == Bytes{15});
  REQUIRE(kept.commit(a, "2", "x", 0, Bytes{15}).has_value());
  CHECK(kept.store->bytes_of("team") == Bytes{15});
  const auto much = kept.commit(a, "3", "yyyy", 0, Bytes{18});
  REQUIRE_FALSE(much.has_value());
  CHECK(much.error().reason == reason::kQuotaExceeded);
  CHECK(kept.store->find("team", "a")->latest == 2);
  CHECK(kept.store->bytes_of("another") == Bytes{});
}
