#include "gateway/blob_api.h"

#include "async/loop.h"
#include "base/testing/fake_clock.h"
#include "store/testing/fake_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

struct BlobFixture {
  FakeClock clock;
  FakeBlobStore blobs{clock};
  TempDir folder = TempDir::create().value();
  std::unique_ptr<BlobOwners> owners = BlobOwners::open(folder.path() / "identity.db", clock, [] {
                                         return std::vector<OwnedBlob>();
                                       }).value();
  Pins pins{clock};
  Loop loop;
  Pool pool{loop, "control", 1};
  QuotaGate quotas{{loop, pool, [] { return QuotaGate::Used{}; }}};
  BlobApi api{{blobs, *owners, pins, pool, quotas}, mib(1)};

  Digest put(std::string_view text) {
    auto writer = blobs.create().value();
    REQUIRE(writer->append(std::as_bytes(std::span(text))).has_value());
    return writer->commit().value().digest;
  }
  void own(std::string_view project, const Digest& digest) {
    const BlobInfo blob = blobs.find(digest).value().value();
    REQUIRE(owners->add(project, blob, BlobOwners::slot(project, digest)).has_value());
  }
  Response state(std::string_view project, const Digest& digest) {
    return loop.run(api.state(project, to_string(digest))).value();
  }
};

}  // namespace

TEST_CASE(
    "a blob that a client was told of is kept from garbage collection, a missing one is not") {
  BlobFixture f;
  const Digest here = f.put("weights");
  const Digest missing = sha256("other weights");

  f.own("default", here);
  CHECK(f.state("default", here).status == 200);
  CHECK(f.state("default", missing).status == 404);
  {
    const Sweep sweep = f.pins.begin_sweep().value();
    CHECK(sweep.is_pinned(here));
    CHECK_FALSE(sweep.is_pinned(missing));
  }
  f.clock.advance(std::chrono::hours(2));
  CHECK_FALSE(f.pins.begin_sweep()->is_pinned(here));
}

TEST_CASE("a project neither finds nor resumes what another one uploads") {
  BlobFixture f;
  const Digest blob = f.put("weights");
  f.own("a", blob);
  CHECK(f.state("a", blob).status == 200);
  CHECK(f.state("b", blob).status == 404);
  CHECK(f.state("default", blob).status == 404);

  const Digest begun = sha256("halfway");
  {
    auto upload = f.blobs.resume(begun, BlobOwners::slot("a", begun)).value();
    REQUIRE(upload->append(std::as_bytes(std::span(std::string_view("half")))).has_value());
  }
  CHECK(f.state("a", begun).headers.find("Upload-Offset") == "4");
  CHECK(f.state("b", begun).headers.find("Upload-Offset") == "0");
  CHECK(f.state("default", begun).headers.find("Upload-Offset") == "0");
  // Nor by the name under which it is kept.
  CHECK(f.state("default", BlobOwners::slot("a", begun)).headers.find("Upload-Offset") == "0");
}
