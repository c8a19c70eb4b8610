// Garbage collection and backups on a whole data folder.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>

#include "base/testing/fake_clock.h"
#include "core/reason.h"
#include "registry/backup.h"
#include "registry/gc.h"
#include "registry/testing/registry_fixture.h"
#include "store/local_blob_store.h"
#include "store/testing/small_disk.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

struct Node {
  TempDir folder = TempDir::create().value();
  Path root = folder.path() / "data";
  // Far in the future, so that files made now are older than any grace.
  FakeClock clock = [] {
    FakeClock fake;
    fake.advance(24h * 365 * 50);
    return fake;
  }();
  DataDir data = DataDir::open(root).value();
  std::unique_ptr<Registry> registry = Registry::open(data.registry_db(), clock).value();
  std::unique_ptr<LocalBlobStore> blobs = LocalBlobStore::open(data.blobs(), data.tmp()).value();
  Pins pins{clock};
  std::vector<BackupPart> parts;
  Author alice{.who = "alice", .why = "because"};

  Digest put(std::string_view content) {
    auto writer = blobs->create().value();
    REQUIRE(writer->append(bytes_of(content)).has_value());
    return writer->commit().value().digest;
  }
  VersionNumber deploy(std::string_view name, const std::string& content) {
    put(content);
    return registry->deploy({.function = name_of(name), .manifest = manifest_with(content)}, alice)
        .value();
  }
  bool has(std::string_view content) const {
    return blobs->find(sha256(content)).value().has_value();
  }
  Path compile(const Digest& artifact, const std::string& suffix = "-cpu") {
    const Path to = data.compiled() / (to_string(artifact) + suffix);
    REQUIRE(make_directories(to).has_value());
    REQUIRE(write_file_durably(to / "model.ort", "compiled").has_value());
    return to;
  }
  Result<GcReport> collect(const GcOptions& options = {}) {
    return collect_garbage({data, *registry, *blobs, pins, clock}, options);
  }
  Result<BackupManifest> back_up_to(const Path& to) {
    return back_up({data, *registry, *blobs, pins, parts}, to);
  }
};

Digest artifact_of(const std::string& content) {
  return parse_digest(artifact_digest(manifest_with(content).files)).value();
}

}  // namespace

TEST_CASE("garbage is what no version of a live function needs") {
  Node node;
  node.deploy("fraud", "a");
  node.deploy("ocr", "b");
  node.deploy("ocr", "a");
  node.put("orphan");
  const Path compiled_a = node.compile(artifact_of("a"));
  const Path compiled_b = node.compile(artifact_of("b"));
  REQUIRE(node.registry->remove(name_of("ocr"), node.alice).has_value());

  const auto dry = node.collect({.mode = GcMode::DryRun});
  REQUIRE(dry.has_value());
  CHECK(dry->blobs.size() == 2);
  CHECK(dry->freed.count == 1 + 6 + 8);
  CHECK(node.has("b"));
  CHECK(std::filesystem::exists(compiled_b));

  const auto done = node.collect();
  REQUIRE(done.has_value());
  CHECK(done->blobs.size() == 2);
  CHECK(done->freed == dry->freed);
  CHECK(done->kept_blobs == 1);
  CHECK(node.has("a"));
  CHECK_FALSE(node.has("b"));
  CHECK_FALSE(node.has("orphan"));
  CHECK(std::filesystem::exists(compiled_a));
  CHECK_FALSE(std::filesystem::exists(compiled_b));
  CHECK(node.collect()->freed.count == 0);
}

TEST_CASE("how a version was trained is kept, backed up and goes with it") {
  Node node;
  const auto trained = [&](const std::string& content) {
    node.put(content);
    return node.registry
        ->deploy({.function = name_of("fraud"),
                  .manifest = manifest_with(content),
                  .training = VersionTraining{.record = node.put("record of " + content),
                                              .job = content,
                                              .data = {{"credit", 1}}}},
                 node.alice)
        .value();
  };
  trained("a");
  trained("b");
  REQUIRE(node.collect().has_value());
  CHECK(node.has("record of a"));
  CHECK(node.registry->live_content({})->by_project.at("default").contains(sha256("record of a")));
  const Path copy = node.folder.path() / "copy";
  REQUIRE(node.back_up_to(copy).has_value());
  REQUIRE(restore_backup(copy, node.folder.path() / "restored").has_value());
  const std::string name = to_string(sha256("record of b"));
  CHECK(
      read_file(node.folder.path() / "restored/blobs/sha256" / name.substr(0, 2) / name).value() ==
      "record of b");
  REQUIRE(
      node.registry->configure(name_of("fraud"), R"({"keep_versions":1})", node.alice).has_value());
  REQUIRE(node.collect().has_value());
  CHECK(node.has("record of b"));
  REQUIRE(node.registry->remove(name_of("fraud"), node.alice).has_value());
  REQUIRE(node.collect().has_value());
  CHECK_FALSE(node.has("record of a"));
  CHECK_FALSE(node.has("record of b"));
}

TEST_CASE("keep_versions retires old versions, never the current one") {
  Node node;
  for (const char* content : {"a", "b", "c", "d"}) node.deploy("fraud", content);
  REQUIRE(node.registry->point(name_of("fraud"), {1}, node.alice).has_value());
  REQUIRE(
      node.registry->configure(name_of("fraud"), R"({"keep_versions":1})", node.alice).has_value());
  CHECK(node.collect({.mode = GcMode::DryRun})->versions.size() == 2);
  const auto done = node.collect();
  REQUIRE(done.has_value());
  CHECK(done->versions.size() == 2);
  CHECK(node.has("a"));
  CHECK_FALSE(node.has("b"));
  CHECK_FALSE(node.has("c"));
  CHECK(node.has("d"));
  CHECK(node.registry->snapshot()->find("fraud")->versions.size() == 2);
  CHECK(node.registry->history(name_of("fraud"), 1).value()[0].kind == "retire");
}

TEST_CASE("young bytes and pinned bytes stay") {
  Node node;
  node.put("orphan");
  CHECK(node.collect({.grace = 24h * 365 * 200})->blobs.empty());
  {
    const Pin pin = node.pins.hold({sha256("orphan")});
    CHECK(node.collect()->blobs.empty());
    CHECK(node.collect({.mode = GcMode::DryRun})->blobs.empty());
  }
  node.pins.lease(sha256("orphan"), 10min);
  CHECK(node.collect()->blobs.empty());
  node.clock.advance(11min);
  CHECK(node.collect()->blobs.size() == 1);
}

TEST_CASE("a pin held at any moment of a sweep protects until the sweep ends") {
  FakeClock clock;
  Pins pins(clock);
  auto before = std::make_unique<Pin>(pins.hold({sha256("a")}));
  auto sweep = std::make_unique<Sweep>(pins.begin_sweep().value());
  before.reset();
  {
    const Pin during = pins.hold({sha256("b")});
  }
  int removed = 0;
  const auto remove = [&]() -> Status {
    ++removed;
    return {};
  };
  CHECK_FALSE(sweep->remove_unless_pinned(sha256("a"), remove).value());
  CHECK_FALSE(sweep->remove_unless_pinned(sha256("b"), remove).value());
  CHECK(sweep->remove_unless_pinned(sha256("c"), remove).value());
  CHECK(removed == 1);
  sweep.reset();
  const Sweep next = pins.begin_sweep().value();
  CHECK_FALSE(next.is_pinned(sha256("a")));
}

TEST_CASE("one sweep at a time, and none during a backup") {
  FakeClock clock;
  Pins pins(clock);
  {
    const Sweep sweep = pins.begin_sweep().value();
    CHECK(pins.begin_sweep().error().reason == reason::kConflict);
    CHECK(pins.pause_sweeps().error().reason == reason::kConflict);
  }
  {
    const SweepPause pause = pins.pause_sweeps().value();
    const SweepPause second = pins.pause_sweeps().value();
    CHECK(pins.begin_sweep().error().reason == reason::kConflict);
  }
  CHECK(pins.begin_sweep().has_value());
}

TEST_CASE("compiled forms for another build or processor go, and what is no compiled form too") {
  Node node;
  node.deploy("fraud", "a");
  const Path good = node.compile(artifact_of("a"), "-new");
  const Path old = node.compile(artifact_of("a"), "-old");
  REQUIRE(make_directories(node.data.compiled() / "debris").has_value());
  CHECK(node.collect()->compiled.size() == 1);
  CHECK(node.collect({.compiled_suffix = "-new"})->compiled.size() == 1);
  CHECK(std::filesystem::exists(good));
  CHECK_FALSE(std::filesystem::exists(old));
}

TEST_CASE("forgotten uploads go, those under way stay") {
  Node node;
  {
    REQUIRE(node.blobs->resume(sha256("abc"))->get()->append(bytes_of("ab")).has_value());
  }
  auto running = node.blobs->resume(sha256("xyz")).value();
  const auto report = node.collect();
  REQUIRE(report.has_value());
  CHECK(report->partials.size() == 1);
  CHECK(node.blobs->partial_size(sha256("abc")).value() == 0);
  REQUIRE(running->append(bytes_of("xyz")).has_value());
  CHECK(running->commit().has_value());
}

TEST_CASE("deploys and collections at the same time never lose a deployed byte") {
  Node node;
  std::atomic<bool> done = false;
  std::thread collector([&] {
    while (!done) {
      if (!node.collect({.grace = 0s})) std::abort();
    }
  });
  for (int i = 0; i < 60; ++i) {
    const std::string content = "content " + std::to_string(i);
    const Pin pin = node.pins.hold({sha256(content), artifact_of(content)});
    node.deploy("f" + std::to_string(i % 5), content);
  }
  done = true;
  collector.join();
  for (const auto& entry : node.registry->snapshot()->all()) {
    for (const VersionEntry& version : entry->versions) {
      const auto manifest = node.registry->manifest(version.content->manifest).value();
      for (const ArtifactFile& file : manifest->files) {
        CHECK(node.blobs->find(parse_digest(file.sha256).value()).value().has_value());
      }
    }
  }
}

TEST_CASE("a backup restores into an empty folder that serves the same functions") {
  Node node;
  node.deploy("fraud", "a");
  node.deploy("fraud", "b");
  node.put("orphan");
  REQUIRE(write_file_durably(node.data.ledger() / "000000000001.log", "records").has_value());
  const Path backup = node.folder.path() / "backup";
  const auto taken = node.back_up_to(backup);
  REQUIRE(taken.has_value());
  CHECK(taken->files.size() == 4);
  node.deploy("later", "c");

  const Path restored = node.folder.path() / "restored";
  REQUIRE(make_directories(restored).has_value());
  std::filesystem::permissions(restored, std::filesystem::perms(0755));
  REQUIRE(restore_backup(backup, restored).has_value());
  CHECK(std::filesystem::status(restored).permissions() == std::filesystem::perms(0700));
  const auto data = DataDir::open(restored);
  REQUIRE(data.has_value());
  const auto registry = Registry::open(data->registry_db(), node.clock).value();
  CHECK(registry->snapshot()->size() == 1);
  CHECK(registry->snapshot()->find("fraud")->current.value == 2);
  const auto blobs = LocalBlobStore::open(data->blobs(), data->tmp()).value();
  CHECK(read_all_fd(blobs->open(sha256("b"))->get(), 10).value() == "b");
  CHECK_FALSE(blobs->find(sha256("orphan")).value().has_value());
  CHECK(read_file(data->ledger() / "000000000001.log").value() == "records");
  CHECK(registry->deploy({.function = name_of("fraud"), .manifest = manifest_with("d")}, node.alice)
            .value()
            .value == 3);
}

TEST_CASE("a backup has the other databases of a node, and the blobs that these name") {
  Node node;
  const auto others = LocalBlobStore::open(node.data.jobs(), node.data.tmp()).value();
  const auto put = [&](std::string_view content) {
    auto writer = others->create().value();
    REQUIRE(writer->append(bytes_of(content)).has_value());
    return writer->commit().value().digest;
  };
  const Digest named = put("a column");
  put("of a job");
  std::weak_ptr<void> held;
  node.parts.push_back({.database = "datasets.db",
                        .folder = "jobs",
                        .blobs = *others,
                        .copy = [&](const Path& to) -> Result<BackupPart::Copied> {
                          Database database = TRY(Database::open(to, OpenMode::Create));
                          TRY(database.execute("make a table", "CREATE TABLE t(x)"));
                          const auto hold = std::make_shared<int>(1);
                          held = hold;
                          return BackupPart::Copied{.named = {named}, .hold = hold};
                        }});
  const Path backup = node.folder.path() / "backup";
  const auto taken = node.back_up_to(backup);
  REQUIRE_MESSAGE(taken.has_value(), taken.error().message);
  CHECK(taken->files.size() == 3);
  CHECK(held.expired());
  const Path restored = node.folder.path() / "restored";
  REQUIRE(restore_backup(backup, restored).has_value());
  const auto data = DataDir::open(restored);
  const auto back = LocalBlobStore::open(data->jobs(), data->tmp()).value();
  CHECK(read_all_fd(back->open(named)->get(), 100).value() == "a column");
  CHECK_FALSE(back->find(sha256("of a job")).value().has_value());
  CHECK(std::filesystem::exists(data->datasets_db()));
  // One that is damaged restores nothing.
  const Path copied = backup / "datasets.db";
  std::filesystem::resize_file(copied, std::filesystem::file_size(copied) - 1);
  CHECK_FALSE(restore_backup(backup, node.folder.path() / "another"));
}

TEST_CASE("a backup onto another file system copies and verifies") {
  Node node;
  node.deploy("fraud", "a");
  const TempDir elsewhere = TempDir::create("/dev/shm").value();
  REQUIRE(node.back_up_to(elsewhere.path() / "b").has_value());
  CHECK(restore_backup(elsewhere.path() / "b", node.folder.path() / "restored").has_value());
}

TEST_CASE("a backup goes only into an empty folder, and not while garbage is collected") {
  Node node;
  const Path used = node.folder.path() / "used";
  REQUIRE(make_directories(used / "something").has_value());
  CHECK(node.back_up_to(used).error().code == Code::FailedPrecondition);
  const Sweep sweep = node.pins.begin_sweep().value();
  CHECK(node.back_up_to(node.folder.path() / "b").error().reason == reason::kConflict);
}

TEST_CASE("a damaged, cut off or foreign backup is refused and leaves nothing that would serve") {
  Node node;
  node.deploy("fraud", "a");
  const TempDir elsewhere = TempDir::create("/dev/shm").value();
  const Path backup = elsewhere.path() / "b";
  REQUIRE(node.back_up_to(backup).has_value());
  const std::string name = to_string(sha256("a"));
  const Path blob = backup / "blobs/sha256" / name.substr(0, 2) / name;

  REQUIRE(std::filesystem::remove(blob));
  CHECK_FALSE(restore_backup(backup, node.folder.path() / "missing").has_value());
  REQUIRE(write_file_durably(blob, "x").has_value());
  const auto damaged = restore_backup(backup, node.folder.path() / "damaged");
  REQUIRE_FALSE(damaged.has_value());
  CHECK(damaged.error().code == Code::DataLoss);
  CHECK(damaged.error().message.find(name) != std::string::npos);
  CHECK_FALSE(DataDir::open(node.folder.path() / "damaged").has_value());
  CHECK_FALSE(restore_backup(backup, node.root).has_value());

  REQUIRE(std::filesystem::remove(backup / "MANIFEST"));
  const auto incomplete = restore_backup(backup, node.folder.path() / "incomplete");
  REQUIRE_FALSE(incomplete.has_value());
  CHECK(incomplete.error().message.find("not complete") != std::string::npos);
}

TEST_CASE("a backup that finds a blob missing says which") {
  Node node;
  node.deploy("fraud", "a");
  REQUIRE(node.blobs->remove(sha256("a")).has_value());
  const auto failed = node.back_up_to(node.folder.path() / "b");
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().message.find(to_string(sha256("a"))) != std::string::npos);
}

TEST_CASE("a backup's manifest survives its text, and no path leaves the folder") {
  BackupManifest manifest;
  manifest.files = {{"ledger/1.log", 5, sha256("x")}, {"registry.db", 0, sha256("")}};
  const std::string text = to_text(manifest);
  CHECK(parse_backup_manifest(text).value() == manifest);
  const std::string line = to_string(sha256("x")) + " 5 ";
  const std::string head = "mayfly-backup 1\nmayfly-data 1\n";
  for (const std::string& bad : std::initializer_list<std::string>{
           "", head, head + "end 1\n", head + line + "../etc/passwd\nend 1\n",
           head + line + "/etc/passwd\nend 1\n", head + line + "\nend 1\n", head + "x 5 a\nend 1\n",
           head + "end 0\ntrailing", text.substr(0, text.size() - 2), "mayfly-backup 2\n"}) {
    CHECK_FALSE(parse_backup_manifest(bad).has_value());
  }
}
