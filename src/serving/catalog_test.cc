#include "serving/catalog.h"

#include <memory>
#include <optional>
#include <string>

#include "async/loop.h"
#include "registry/testing/registry_fixture.h"
#include "store/local_blob_store.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

class NoJobs final : public JobRunner {
 public:
  Result<std::unique_ptr<Job>> run_job(JobSpec, JobEvents) override {
    return fail(Code::Unavailable, "no jobs here");
  }
};

struct CatalogRig {
  RegistryFixture fixture;
  SystemClock clock;
  Loop loop{clock};
  Pool pool{loop, "registry", 1};
  NoJobs jobs;
  Path root = fixture.folder.path();
  std::unique_ptr<LocalBlobStore> blobs =
      LocalBlobStore::open(root / "blobs", root / "tmp").value();
  Publisher publisher{loop, pool, jobs, {.compiled = root / "compiled", .tmp = root / "tmp"}, {}};
  QuotaGate quotas{{loop, pool, [] { return QuotaGate::Used{}; }}};
  std::optional<Catalog> catalog;

  Registry& registry() { return *fixture.registry; }
  // As a node that has just started: nothing is cached.
  Catalog& open() {
    return catalog.emplace(Catalog::Parts{registry(), *blobs, publisher, pool, quotas});
  }

  struct Found {
    std::optional<Result<ServingRef>> serving;
  };
  std::shared_ptr<Found> begin(const std::string& name) {
    auto found = std::make_shared<Found>();
    loop.spawn(store(*catalog, name, found));
    return found;
  }
  Result<ServingRef> find(const std::string& name, const std::string& version = "") {
    return loop.run(catalog->find(name, version));
  }
  Result<ServingRef> end(Found& found) {
    loop.run(wait(pool));
    while (!found.serving) loop.run(wait(pool));
    return *found.serving;
  }

 private:
  static Task<void> store(Catalog& catalog, std::string name, std::shared_ptr<Found> found) {
    found->serving = co_await catalog.find(name, "");
  }
  static Task<void> wait(Pool& pool) {
    co_await pool.run([] {});
  }
};

}  // namespace

TEST_CASE("settings changed while a function is looked up for the first time are not lost") {
  CatalogRig rig;
  rig.fixture.deploy("f", "one");
  rig.open();
  const auto first = rig.begin("f");
  REQUIRE_FALSE(first->serving);
  REQUIRE(rig.registry().configure(name_of("f"), R"({"queue_limit": 7})", rig.fixture.alice));
  rig.catalog->publish(rig.registry().snapshot());
  const ServingRef old = rig.end(*first).value();
  CHECK(old->settings->queue_limit != 7);
  const ServingRef now = rig.find("f").value();
  CHECK(now->settings->queue_limit == 7);
  CHECK(now->sequence > old->sequence);
}

TEST_CASE("a split is obeyed with a key, and only where no version is named") {
  CatalogRig rig;
  for (const char* content : {"one", "two", "three"}) rig.fixture.deploy("f", content);
  const auto traffic = parse_traffic(R"({"weights":{"1":50,"2":50},"sticky_header":"X-User"})");
  REQUIRE(rig.registry().split(name_of("f"), *traffic, rig.fixture.alice));
  rig.open();
  const auto version = [&](const std::string& name, std::uint64_t key) {
    const auto key_of = [key](std::string_view sticky) {
      CHECK(sticky == "X-User");
      return traffic_key(std::to_string(key));
    };
    const auto found = rig.loop.run(rig.catalog->find(name, "", key_of));
    return found ? (*found)->version.value : 0;
  };
  bool seen[4] = {};
  for (std::uint64_t key = 0; key < 40; ++key) {
    const std::uint32_t first = version("f", key);
    CHECK(version("f", key) == first);
    seen[first] = true;
  }
  CHECK(seen[1]);
  CHECK(seen[2]);
  CHECK_FALSE(seen[3]);
  CHECK(version("f@3", 1) == 3);
  CHECK(version("f@previous", 1) == 3);
  CHECK(version("f@champion", 1) == version("f@champion", 2));
  // Without a key it is the champion, also when a keyed request went before.
  CHECK(rig.find("f").value()->version == rig.registry().snapshot()->find("f")->current);
}

TEST_CASE("a version deployed while its predecessor is looked up is served from then on") {
  CatalogRig rig;
  rig.fixture.deploy("f", "one");
  rig.open();
  const auto first = rig.begin("f");
  rig.fixture.deploy("f", "two");
  rig.catalog->publish(rig.registry().snapshot());
  CHECK(rig.end(*first).value()->version.value == 1);
  CHECK(rig.find("f").value()->version.value == 2);
}

TEST_CASE("a name and a version are never another project's function, known or not") {
  CatalogRig rig;
  rig.fixture.deploy("team/fraud", "one");
  rig.fixture.deploy("team", "two");
  rig.fixture.deploy("team/1", "three");
  rig.open();
  REQUIRE(rig.find("team/fraud").has_value());
  REQUIRE(rig.find("team", "1").has_value());
  CHECK_FALSE(rig.find("team", "fraud").has_value());
  CHECK_FALSE(rig.find("team", "fraud@1").has_value());
  CHECK(rig.find("team/1").value()->function == "team/1");
}

TEST_CASE("what processes hold counts towards their project") {
  CatalogRig rig;
  for (const char* name : {"team/a", "team/b", "a"}) rig.fixture.deploy(name, name);
  rig.open();
  const auto share = [&](const char* name) { return rig.find(name).value()->runtime->share; };
  CHECK(share("team/a") == share("team/b"));
  CHECK(share("team/a") != share("a"));
}

TEST_CASE("what is kept of a deleted function goes, and no other project's") {
  CatalogRig rig;
  for (const char* name : {"team/f", "team", "f"}) rig.fixture.deploy(name, name);
  rig.open();
  const auto kept = [&](const char* name) {
    return std::weak_ptr<const Serving>(rig.find(name).value());
  };
  const auto forgotten = kept("team/f");
  const auto other = kept("team");
  const auto third = kept("f");
  rig.catalog->forget("team/f");
  CHECK(forgotten.expired());
  CHECK_FALSE(other.expired());
  CHECK_FALSE(third.expired());
}

TEST_CASE("what was found is known to be gone, also when its name is another function's") {
  CatalogRig rig;
  rig.fixture.deploy("f", "one");
  Catalog& catalog = rig.open();
  const ServingRef old = rig.find("f").value();
  CHECK(catalog.still_has(*old));
  REQUIRE(rig.registry().remove(name_of("f"), rig.fixture.alice));
  catalog.publish(rig.registry().snapshot());
  CHECK_FALSE(catalog.still_has(*old));
  rig.fixture.deploy("f", "one");
  catalog.publish(rig.registry().snapshot());
  CHECK_FALSE(catalog.still_has(*old));
  CHECK(catalog.still_has(*rig.find("f").value()));
}

TEST_CASE("a function deleted while it is looked up is gone afterwards") {
  CatalogRig rig;
  rig.fixture.deploy("f", "one");
  rig.open();
  const auto first = rig.begin("f");
  REQUIRE(rig.registry().remove(name_of("f"), rig.fixture.alice));
  rig.catalog->publish(rig.registry().snapshot());
  (void)rig.end(*first);
  CHECK_FALSE(rig.find("f").has_value());
}

}  // namespace mayfly
