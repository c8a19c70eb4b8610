#include "identity/blob_owners.h"

#include "base/testing/fake_clock.h"
#include "core/caller_reason.h"
#include "store/testing/fake_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

struct OwnersFixture {
  FakeClock clock;
  FakeBlobStore blobs{clock};
  TempDir folder = TempDir::create().value();
  std::unique_ptr<BlobOwners> owners = open();

  std::unique_ptr<BlobOwners> open(std::vector<OwnedBlob> found = {}) {
    return BlobOwners::open(folder.path() / "identity.db", clock, [&] { return found; }).value();
  }
  BlobInfo put(std::string_view text) {
    auto writer = blobs.create().value();
    REQUIRE(writer->append(std::as_bytes(std::span(text))).has_value());
    return writer->commit().value();
  }
  void add(std::string_view project, const BlobInfo& blob) {
    REQUIRE(owners->add(project, blob, BlobOwners::slot(project, blob.digest)).has_value());
  }
  bool has(std::string_view project, const BlobInfo& blob) {
    return owners->has(project, blob.digest).value();
  }
  std::uint64_t stored(std::string_view project) { return owners->stored(project)->count; }
  // Of bytes with the limit of 10: what it may have; 0: none.
  std::uint64_t reserve(BlobOwners::Upload upload) {
    const auto room = owners->reserve(upload, Bytes{10});
    if (room) return room->count;
    CHECK(room.error().reason == reason::kQuotaExceeded);
    CHECK(room.error().message.starts_with("stored_bytes: "));
    return 0;
  }
};

using Kind = BlobOwners::Upload::Kind;

}  // namespace

TEST_CASE("a blob is there for the projects that uploaded it, also after a restart") {
  OwnersFixture f;
  const BlobInfo blob = f.put("bytes");
  CHECK_FALSE(f.has("default", blob));
  f.add("a", blob);
  f.add("a", blob);
  CHECK(f.has("a", blob));
  CHECK_FALSE(f.has("b", blob));
  CHECK_FALSE(f.has("default", blob));
  f.add("default", blob);
  f.owners = f.open();
  CHECK(f.has("default", blob));
  CHECK(f.has("a", blob));
}

TEST_CASE("before there are notes, blobs are of the projects whose versions need them") {
  OwnersFixture f;
  const BlobInfo blob = f.put("bytes");
  const TempDir other = TempDir::create().value();
  const auto open = [&] {
    return BlobOwners::open(other.path() / "identity.db", f.clock,
                            [&] { return std::vector<OwnedBlob>{{"team", blob}}; })
        .value();
  };
  CHECK(open()->has("team", blob.digest).value());
  CHECK_FALSE(open()->has("default", blob.digest).value());
  f.owners = f.open({{"b", blob}});  // there are notes, without this one
  CHECK_FALSE(f.has("b", blob));
}

TEST_CASE("uploads of different projects are kept apart, and of none under the digest itself") {
  const Digest blob = sha256("bytes");
  CHECK(BlobOwners::slot("default", blob) != blob);
  CHECK(BlobOwners::slot("a", blob) != BlobOwners::slot("b", blob));
  CHECK(BlobOwners::slot("a", blob) != sha256("a/" + to_string(BlobOwners::slot("a", blob))));
}

TEST_CASE("what a project stores is what it has and what it uploads, within its limit") {
  OwnersFixture f;
  const BlobInfo blob = f.put("1234");
  f.add("a", blob);
  f.add("a", blob);
  CHECK(f.stored("a") == 4);
  const Digest slot = BlobOwners::slot("a", sha256("next"));
  CHECK(f.reserve({.project = "a", .slot = slot, .size = Bytes{7}}) == 0);
  CHECK(f.reserve({.project = "a", .slot = slot, .size = Bytes{6}}) == 6);
  CHECK(f.reserve({.project = "a", .slot = slot, .size = Bytes{6}}) == 6);  // it goes on
  CHECK(f.reserve({.project = "a", .slot = f.owners->fresh_slot(), .size = Bytes{1}}) == 0);
  CHECK(f.reserve({.project = "b", .slot = f.owners->fresh_slot(), .size = Bytes{10}}) == 10);
  CHECK(f.stored("a") == 10);
  REQUIRE(f.owners->release(slot).has_value());
  CHECK(f.stored("a") == 4);
}

TEST_CASE("an upload of unknown length may have what is left") {
  OwnersFixture f;
  f.add("a", f.put("1234"));
  const Digest slot = f.owners->fresh_slot();
  CHECK(f.reserve({.project = "a", .slot = slot, .kind = Kind::Fresh}) == 6);
  CHECK(f.reserve({.project = "a", .slot = f.owners->fresh_slot(), .kind = Kind::Fresh}) == 0);
  const auto unlimited = f.owners->reserve({.project = "b", .slot = f.owners->fresh_slot()}, {});
  CHECK(unlimited->count > gib(1024).count);
}

TEST_CASE("a restart forgets uploads that nobody can go on with, and keeps the others") {
  OwnersFixture f;
  CHECK(f.reserve({.project = "a", .slot = sha256("1"), .size = Bytes{3}}) == 3);
  CHECK(f.reserve({.project = "a",
                   .slot = f.owners->fresh_slot(),
                   .size = Bytes{4},
                   .kind = Kind::Fresh}) == 4);
  f.owners = f.open();
  CHECK(f.stored("a") == 3);
}

TEST_CASE("a garbage collection takes what a project needs no longer off its account") {
  OwnersFixture f;
  const BlobInfo needed = f.put("needed");
  const BlobInfo unused = f.put("unused");
  const BlobInfo lost{.digest = sha256("lost"), .size = 4};
  for (const BlobInfo& blob : {needed, unused, lost}) f.add("a", blob);
  f.add("b", unused);
  REQUIRE(f.owners->reserve({.project = "a", .slot = sha256("begun"), .size = Bytes{9}}, {}));
  f.clock.advance(std::chrono::hours(2));
  const BlobInfo recent = f.put("recent");
  f.add("a", recent);
  REQUIRE(f.owners->reserve({.project = "b", .slot = sha256("just"), .size = Bytes{5}}, {}));
  const BlobOwners::Needed live = {{"a", {needed.digest}}, {"b", {unused.digest}}};
  const WallTime since = f.clock.wall_now() - std::chrono::hours(1);
  REQUIRE(f.owners->collect(live, since, f.blobs).has_value());
  CHECK(f.has("a", needed));
  CHECK(f.has("a", recent));
  CHECK_FALSE(f.has("a", unused));
  CHECK_FALSE(f.has("a", lost));
  CHECK(f.has("b", unused));
  CHECK(f.stored("a") == needed.size + recent.size);
  CHECK(f.stored("b") == unused.size + 5);
}

TEST_CASE("asking for a blob keeps it for the deploy that follows") {
  OwnersFixture f;
  const BlobInfo blob = f.put("bytes");
  f.add("a", blob);
  f.clock.advance(std::chrono::hours(2));
  CHECK(f.has("a", blob));
  const WallTime since = f.clock.wall_now() - std::chrono::hours(1);
  REQUIRE(f.owners->collect({}, since, f.blobs).has_value());
  CHECK(f.has("a", blob));
}
