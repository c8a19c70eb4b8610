#include "identity/blob_owners.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("a blob is there for the projects that uploaded it, and older ones for the default") {
  const TempDir folder = TempDir::create().value();
  auto owners = BlobOwners::open(folder.path() / "identity.db").value();
  const Digest blob = sha256("bytes");
  CHECK(owners->has("default", blob).value());
  CHECK_FALSE(owners->has("a", blob).value());
  REQUIRE(owners->add("a", blob).has_value());
  REQUIRE(owners->add("a", blob).has_value());
  CHECK(owners->has("a", blob).value());
  CHECK_FALSE(owners->has("b", blob).value());
  CHECK_FALSE(owners->has("default", blob).value());
  REQUIRE(owners->add("default", blob).has_value());
  owners = BlobOwners::open(folder.path() / "identity.db").value();
  CHECK(owners->has("default", blob).value());
  CHECK(owners->has("a", blob).value());
}

TEST_CASE("uploads of different projects are kept apart") {
  const Digest blob = sha256("bytes");
  CHECK(BlobOwners::slot("default", blob) == blob);
  CHECK(BlobOwners::slot("a", blob) != BlobOwners::slot("b", blob));
  CHECK(BlobOwners::slot("a", blob) != blob);
}
