#include "gateway/blob_api.h"

#include "async/loop.h"
#include "base/testing/fake_clock.h"
#include "store/testing/fake_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE(
    "a blob that a client was told of is kept from garbage collection, a missing one is not") {
  FakeClock clock;
  FakeBlobStore blobs(clock);
  Pins pins(clock);
  Loop loop;
  Pool pool(loop, "control", 1);
  BlobApi api(blobs, pins, pool, mib(1));
  auto writer = blobs.create().value();
  REQUIRE(writer->append(std::as_bytes(std::span(std::string_view("weights")))).has_value());
  const Digest here = writer->commit().value().digest;
  const Digest missing = sha256("other weights");

  CHECK(loop.run(api.state(to_string(here)))->status == 200);
  CHECK(loop.run(api.state(to_string(missing)))->status == 404);
  {
    const Sweep sweep = pins.begin_sweep().value();
    CHECK(sweep.is_pinned(here));
    CHECK_FALSE(sweep.is_pinned(missing));
  }
  clock.advance(std::chrono::hours(2));
  CHECK_FALSE(pins.begin_sweep()->is_pinned(here));
}
