#include "registry/registry.h"

#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "base/testing/fake_clock.h"
#include "core/reason.h"
#include "registry/testing/registry_fixture.h"
#include "store/testing/small_disk.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

TEST_CASE("a deploy makes the next version and points the function at it") {
  RegistryFixture f;
  CHECK(f.deploy("fraud", "a") == 1);
  CHECK(f.deploy("fraud", "b") == 2);
  CHECK(f.deploy("ocr", "a") == 1);
  const auto table = f.registry->snapshot();
  CHECK(table->size() == 2);
  const auto current = table->resolve(parse_model_ref("fraud").value());
  REQUIRE(current.has_value());
  CHECK(current->version->number.value == 2);
  const auto pinned = table->resolve(parse_model_ref("fraud@1").value());
  CHECK(pinned->version->number.value == 1);
  CHECK(table->resolve(parse_model_ref("fraud@3").value()).error().reason ==
        reason::kUnknownVersion);
  CHECK(table->resolve(parse_model_ref("nobody").value()).error().reason ==
        reason::kUnknownFunction);
}

TEST_CASE("everything is there after a restart") {
  RegistryFixture f;
  f.deploy("fraud", "a");
  f.deploy("fraud", "b");
  f.deploy("ocr", "c");
  REQUIRE(f.registry->configure(name_of("fraud"), R"({"idle_timeout":"5s"})", f.alice).has_value());
  REQUIRE(f.registry->point(name_of("fraud"), {1}, f.alice).has_value());
  REQUIRE(f.registry->remove(name_of("ocr"), f.alice).has_value());
  const auto before = f.registry->snapshot();
  f.reopen();
  const auto after = f.registry->snapshot();
  CHECK(after->sequence() == before->sequence());
  CHECK(after->size() == 1);
  const auto fraud = after->find("fraud");
  CHECK(fraud->current.value == 1);
  CHECK(fraud->versions.size() == 2);
  CHECK(*fraud->settings == *before->find("fraud")->settings);
  CHECK(fraud->created == before->find("fraud")->created);
}

TEST_CASE("versions tell who deployed what, manifests come back as they were") {
  RegistryFixture f;
  f.deploy("fraud", "a");
  const auto versions = f.registry->versions(name_of("fraud"));
  REQUIRE(versions.has_value());
  REQUIRE(versions->size() == 1);
  CHECK(versions->front().deployed_by == "alice");
  CHECK(versions->front().report == R"({"load_ms":3})");
  const Digest digest = versions->front().manifest;
  CHECK(f.registry->cached_manifest(digest) == nullptr);
  const auto manifest = f.registry->manifest(digest);
  REQUIRE(manifest.has_value());
  CHECK(to_json(**manifest) == to_json(manifest_with("a")));
  CHECK(f.registry->cached_manifest(digest) == *manifest);
  CHECK(f.registry->manifest(sha256("unknown")).error().code == Code::NotFound);
}

namespace {

Deployment trained_by(std::string job, std::uint32_t snapshot) {
  return {.function = name_of("fraud"),
          .manifest = manifest_with(job),
          .traffic = {.percent = 0, .first = DeployTraffic::First::Waits},
          .training = VersionTraining{.record = sha256(job),
                                      .job = job,
                                      .data = {{.dataset = "credit", .snapshot = snapshot}}}};
}

}  // namespace

TEST_CASE("a version tells how it was trained, and data tells what was trained on it") {
  RegistryFixture f;
  CHECK(f.registry->deploy(trained_by("one", 1), f.alice)->value == 1);
  CHECK(f.registry->deploy(trained_by("two", 3), f.alice)->value == 2);
  f.deploy("fraud", "by hand");
  f.reopen();
  const auto training = f.registry->training(name_of("fraud"), {2}).value();
  REQUIRE(training.has_value());
  CHECK(*training == trained_by("two", 3).training);
  CHECK_FALSE(f.registry->training(name_of("fraud"), {3}).value().has_value());
  CHECK(f.registry->training(name_of("fraud"), {9}).error().reason == reason::kUnknownVersion);
  const auto on = f.registry->trained_on("credit", 3).value();
  REQUIRE(on.size() == 1);
  CHECK(on[0].function.str() == "fraud");
  CHECK(on[0].number.value == 2);
  CHECK(f.registry->trained_on("credit", 2)->empty());
  CHECK(f.registry->trained_on("other", 3)->empty());
  REQUIRE(f.registry->remove(name_of("fraud"), f.alice).has_value());
  CHECK(f.registry->trained_on("credit", 3)->empty());
}

TEST_CASE("a training makes one version, however often it is handed over") {
  RegistryFixture f;
  CHECK(f.registry->deploy(trained_by("one", 1), f.alice)->value == 1);
  CHECK(f.registry->deploy(trained_by("one", 1), f.alice)->value == 1);
  CHECK(f.registry->snapshot()->find("fraud")->versions.size() == 1);
  CHECK(f.registry->version_of_job(name_of("fraud"), "one").value() == VersionNumber{1});
  CHECK_FALSE(f.registry->version_of_job(name_of("fraud"), "two")->has_value());
  CHECK_FALSE(f.registry->version_of_job(name_of("nobody"), "one")->has_value());
}

TEST_CASE("a function that was registered without requests waits until somebody gives them") {
  RegistryFixture f;
  REQUIRE(f.registry->deploy(trained_by("one", 1), f.alice).has_value());
  REQUIRE(f.registry->deploy(trained_by("two", 1), f.alice).has_value());
  f.reopen();
  CHECK(f.registry->snapshot()->find("fraud")->routing->waiting);
  REQUIRE(f.registry->point(name_of("fraud"), {1}, f.alice).has_value());
  f.reopen();
  CHECK_FALSE(f.registry->snapshot()->find("fraud")->routing->waiting);
  CHECK(f.registry->snapshot()->find("fraud")->current.value == 1);
  REQUIRE(f.registry->deploy(trained_by("three", 1), f.alice).has_value());
  CHECK_FALSE(f.registry->snapshot()->find("fraud")->routing->waiting);
}

TEST_CASE("equal manifests are stored and held once") {
  RegistryFixture f;
  f.deploy("fraud", "a");
  f.deploy("ocr", "a");
  const auto table = f.registry->snapshot();
  CHECK(table->find("fraud")->versions[0].content == table->find("ocr")->versions[0].content);
}

TEST_CASE("settings change with history, and bad changes change nothing") {
  RegistryFixture f;
  f.deploy("fraud", "a");
  const auto changed = f.registry->configure(name_of("fraud"), R"({"max_instances":4})", f.alice);
  REQUIRE(changed.has_value());
  CHECK(changed->max_instances == 4);
  const auto table = f.registry->snapshot();
  CHECK(table->find("fraud")->settings->max_instances == 4);
  for (const char* bad : {R"({"max_instances":"x"})", R"({"nope":1})", "[]", "{", ""}) {
    CHECK_FALSE(f.registry->configure(name_of("fraud"), bad, f.alice).has_value());
  }
  CHECK(f.registry->snapshot() == table);
  CHECK(f.registry->configure(name_of("nobody"), "{}", f.alice).error().reason ==
        reason::kUnknownFunction);
  const auto history = f.registry->history(name_of("fraud"), 10).value();
  REQUIRE(history.size() == 2);
  CHECK(history[0].kind == "configure");
  CHECK(history[0].who == "alice");
  CHECK(history[0].detail.find(R"("max_instances":4)") != std::string::npos);
  CHECK(history[0].detail.find("because") != std::string::npos);
  CHECK(history[1].kind == "deploy");
}

TEST_CASE("pointing back is a change of its own, to a version that exists") {
  RegistryFixture f;
  f.deploy("fraud", "a");
  f.deploy("fraud", "b");
  REQUIRE(f.registry->point(name_of("fraud"), {1}, f.alice).has_value());
  CHECK(f.registry->snapshot()->find("fraud")->current.value == 1);
  CHECK(f.registry->point(name_of("fraud"), {9}, f.alice).error().reason ==
        reason::kUnknownVersion);
  CHECK(f.registry->history(name_of("fraud"), 1)
            .value()[0]
            .detail.find(R"("after":{"champion":1,)") != std::string::npos);
  CHECK(f.deploy("fraud", "c") == 3);
}

TEST_CASE(
    "a version that is pointed at again while it is to be retired stays, and keeps its bytes") {
  RegistryFixture at;
  for (const char* content : {"a", "b", "c", "d"}) at.deploy("fraud", content);
  REQUIRE(at.registry->configure(name_of("fraud"), R"({"keep_versions":1})", at.alice).has_value());
  const auto listed = at.registry->superseded_versions();
  REQUIRE(listed.size() == 2);
  REQUIRE(at.registry->point(name_of("fraud"), {1}, at.alice).has_value());
  const auto retired = at.registry->retire(listed, at.alice);
  REQUIRE(retired.has_value());
  REQUIRE(retired->size() == 1);
  CHECK(retired->front().number == VersionNumber{2});
  CHECK(at.registry->live_content({})->blobs.contains(sha256("a")));
}

TEST_CASE("a deleted function is gone at once; its name never reuses a version number") {
  RegistryFixture f;
  f.deploy("fraud", "a");
  f.deploy("fraud", "b");
  const auto held = f.registry->snapshot();
  REQUIRE(f.registry->remove(name_of("fraud"), f.alice).has_value());
  CHECK(f.registry->snapshot()->find("fraud") == nullptr);
  CHECK(held->find("fraud") != nullptr);
  CHECK(f.registry->remove(name_of("fraud"), f.alice).error().reason == reason::kUnknownFunction);
  CHECK(f.registry->history(name_of("fraud"), 10).value().size() == 3);
  CHECK(f.deploy("fraud", "c") == 3);
  CHECK(f.registry->snapshot()->find("fraud")->versions.size() == 1);
  f.reopen();
  CHECK(f.registry->snapshot()->find("fraud")->versions.size() == 1);
}

TEST_CASE("the log of changes can be followed from any point") {
  RegistryFixture f;
  f.deploy("fraud", "a");
  const std::uint64_t seen = f.registry->snapshot()->sequence();
  f.deploy("ocr", "a");
  REQUIRE(f.registry->remove(name_of("fraud"), f.alice).has_value());
  const auto changes = f.registry->changes_after(seen, 10).value();
  REQUIRE(changes.size() == 2);
  CHECK(changes[0].function == "ocr");
  CHECK(changes[1].kind == "delete");
  CHECK(changes[1].sequence == f.registry->snapshot()->sequence());
}

TEST_CASE("every change is published once, in order, and old snapshots stay as they were") {
  RegistryFixture f;
  std::vector<std::uint64_t> published;
  f.registry->on_publish(
      [&](const Registry::Snapshot& table) { published.push_back(table->sequence()); });
  f.deploy("fraud", "a");
  const auto first = f.registry->snapshot();
  f.deploy("fraud", "b");
  CHECK(published.size() == 2);
  CHECK(published[0] < published[1]);
  CHECK(first->find("fraud")->current.value == 1);
  CHECK(first->find("fraud")->versions.size() == 1);
}

TEST_CASE("a manifest with a malformed digest is refused and nothing has happened") {
  RegistryFixture f;
  Manifest manifest = manifest_with("a");
  manifest.files[0].sha256 = "nonsense";
  const auto refused =
      f.registry->deploy({.function = name_of("fraud"), .manifest = manifest}, f.alice);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().reason == reason::kInvalidManifest);
  CHECK(f.registry->snapshot()->size() == 0);
}

TEST_CASE("a version keeps who vouches for it, and loses that with its row") {
  RegistryFixture f;
  const Provenance vouched{.signature = "{}", .key = "ab", .origin = R"({"from":"import"})"};
  REQUIRE(f.registry->deploy(
      {.function = name_of("fraud"), .manifest = manifest_with("a"), .provenance = vouched},
      f.alice));
  f.deploy("fraud", "b");
  f.reopen();
  const auto rows = f.registry->versions(name_of("fraud")).value();
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].provenance.key == "ab");
  CHECK(rows[0].provenance.origin == vouched.origin);
  CHECK(rows[0].provenance.signature.empty());  // lists leave it out
  CHECK(rows[1].provenance.key.empty());
  CHECK(rows[1].provenance.origin == "{}");
  CHECK(f.registry->provenance(name_of("fraud"), {1}).value().signature == "{}");
  CHECK(f.registry->provenance(name_of("fraud"), {2}).value().signature.empty());
  CHECK(f.registry->provenance(name_of("fraud"), {3}).error().reason == reason::kUnknownVersion);
  REQUIRE(f.registry->remove(name_of("fraud"), f.alice));
  REQUIRE(f.registry->retire({}, f.alice));
  auto database = Database::open(f.database, OpenMode::ReadWrite).value();
  Statement left = database.prepare("count", "SELECT count(*) FROM provenance").value();
  REQUIRE(left.step().value());
  CHECK(left.integer(0) == 0);
}

TEST_CASE("versions, manifests and history cannot be edited behind the registry's back") {
  RegistryFixture f;
  REQUIRE(f.registry->deploy({.function = name_of("fraud"),
                              .manifest = manifest_with("a"),
                              .provenance = {.signature = "{}", .key = "ab"}},
                             f.alice));
  auto database = Database::open(f.database, OpenMode::ReadWrite).value();
  for (const char* sql : {"UPDATE version SET deployed_by = 'mallory'",
                          "UPDATE manifest SET json = '{}'", "UPDATE change SET who = 'mallory'",
                          "DELETE FROM change", "UPDATE provenance SET key = 'mallory'"}) {
    CHECK_FALSE(database.execute("tamper", sql).has_value());
  }
}

TEST_CASE("a full disk refuses a deploy with storage_full; the next one finds room") {
  RegistryFixture f;
  f.deploy("fraud", "a");
  Manifest large = manifest_with("b");
  for (int i = 0; i < 3000; ++i) {
    const std::string path = "weights/" + std::to_string(i);
    large.files.push_back({path, to_string(sha256(path)), 1});
  }
  const Deployment deployment{.function = name_of("fraud"), .manifest = large};
  {
    const FileSizeLimit limit(160 * 1024);
    const auto refused = f.registry->deploy(deployment, f.alice);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().reason == reason::kStorageFull);
    CHECK(f.registry->snapshot()->find("fraud")->versions.size() == 1);
  }
  CHECK(f.registry->deploy(deployment, f.alice).value().value == 2);
}

TEST_CASE("deploys, reads and settings from many threads: nothing lost, numbers without gaps") {
  RegistryFixture f;
  f.deploy("shared", "a");
  std::atomic<bool> done = false;
  std::thread reader([&] {
    std::uint64_t last = 0;
    while (!done) {
      const auto table = f.registry->snapshot();
      if (table->sequence() < last) std::abort();
      last = table->sequence();
      const auto entry = table->find("shared");
      if (!entry->find(entry->current)) std::abort();
      if (!f.registry->manifest(entry->versions.front().content->manifest)) std::abort();
    }
  });
  std::vector<std::thread> writers;
  for (int w = 0; w < 3; ++w) {
    writers.emplace_back([&f, w] {
      for (int i = 0; i < 15; ++i) {
        f.deploy("shared", std::to_string(w * 100 + i));
        f.deploy("own-" + std::to_string(w), "x");
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  done = true;
  reader.join();
  const auto table = f.registry->snapshot();
  CHECK(table->find("shared")->versions.size() == 46);
  CHECK(table->find("shared")->versions.back().number.value == 46);
  CHECK(table->find("own-2")->current.value == 15);
  CHECK(table->sequence() == 1 + 3 * 15 * 2);  // one change each, none lost
}

TEST_CASE("a deploy that was reported survives kill -9") {
  RegistryFixture f;
  f.registry.reset();
  std::uint32_t reported = 0;
  for (int round = 0; round < 8; ++round) {
    Pipe pipe = make_pipe().value();
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      f.reopen();
      while (true) {
        const std::uint32_t number = f.deploy("fraud", "a");
        if (!write_all(pipe.write_end.get(), std::as_bytes(std::span(&number, 1)))) ::_exit(1);
      }
    }
    pipe.write_end.reset();
    for (int i = 0; i < 1 + round; ++i) {
      REQUIRE(::read(pipe.read_end.get(), &reported, sizeof reported) == sizeof reported);
    }
    ::kill(child, SIGKILL);
    while (::read(pipe.read_end.get(), &reported, sizeof reported) == sizeof reported) {
    }
    REQUIRE(::waitpid(child, nullptr, 0) == child);
    f.reopen();
    const auto entry = f.registry->snapshot()->find("fraud");
    CHECK(entry->current.value >= reported);
    CHECK(entry->current.value <= reported + 1);
    CHECK(entry->versions.size() == entry->current.value);
    f.registry.reset();
  }
}

TEST_CASE("the table finds, replaces and removes among many names") {
  FunctionTable table;
  const auto settings = std::make_shared<const FunctionSettings>();
  for (std::uint32_t i = 0; i < 1000; ++i) {
    table = table.with(entry_named("f" + std::to_string(i), settings), i + 1);
  }
  CHECK(table.size() == 1000);
  CHECK(table.all().size() == 1000);
  CHECK(std::ranges::is_sorted(table.all(), {}, [](const auto& e) { return e->name.str(); }));
  const FunctionTable before = table;
  table = table.with(entry_named("f7", settings), 1001).without("f8", 1002).without("none", 1003);
  CHECK(table.size() == 999);
  CHECK(table.find("f8") == nullptr);
  CHECK(before.find("f8") != nullptr);
  CHECK(table.find("f7") != before.find("f7"));
  CHECK(table.find("f9") == before.find("f9"));
  CHECK(table.sequence() == 1003);
}

TEST_CASE("the cache of manifests forgets the least recently used one") {
  ManifestCache cache(2);
  const auto manifest = std::make_shared<const Manifest>();
  cache.insert(sha256("a"), manifest);
  cache.insert(sha256("b"), manifest);
  CHECK(cache.find(sha256("a")) != nullptr);
  cache.insert(sha256("c"), manifest);
  CHECK(cache.find(sha256("b")) == nullptr);
  CHECK(cache.find(sha256("a")) != nullptr);
  CHECK(cache.size() == 2);
}

// The sanitizers' allocators do not tell what is in use.
#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
namespace {

// Functions like the first one, made in one statement: 10,000 deploys would take seconds.
constexpr const char* kTenThousand = R"sql(
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i <= 10000)
INSERT INTO function(id, name, created, created_by, current, settings)
  SELECT i, 'function-with-a-name-' || i, f.created, 'alice', 1, f.settings FROM n, function f;
INSERT INTO version SELECT f.id, 1, m.digest, 0, 'alice', '{}' FROM function f, manifest m
  WHERE f.id > 1;
COMMIT;
)sql";

}  // namespace

TEST_CASE("10,000 functions of one artifact cost at most 1 KiB each, and changes stay cheap") {
  RegistryFixture f("/dev/shm");
  f.deploy("warm-up", "a");
  f.reopen();
  const std::size_t before = ::mallinfo2().uordblks;
  f.registry.reset();
  {
    auto database = Database::open(f.database, OpenMode::ReadWrite).value();
    REQUIRE(database.execute("fill", kTenThousand).has_value());
  }
  f.reopen();
  const std::size_t after = ::mallinfo2().uordblks;
  MESSAGE("bytes per function: " << (after - before) / 10'000);
  CHECK((after - before) / 10'000 <= 1024);
  const auto full = f.registry->snapshot();
  const std::size_t loaded = ::mallinfo2().uordblks;
  const FunctionTable next =
      full->with(entry_named("one-more", full->find("warm-up")->settings), 1);
  CHECK(::mallinfo2().uordblks - loaded < 16 * 1024);  // not a copy of 10,000 entries
  CHECK(full->size() == 10'001);
  CHECK(f.deploy("one-more", "b") == 1);
}
#endif
