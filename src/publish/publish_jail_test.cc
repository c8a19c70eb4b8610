// Publishing for real: mayfly-runner's jail, models of `make models`. Without either there is
// nothing to test.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "async/event.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/sleep.h"
#include "core/reason.h"
#include "publish/publisher.h"
#include "publish/taken_file.h"
#include "sandbox/cgroup.h"
#include "sandbox/cgroup_fs.h"
#include "sandbox/cgroup_support.h"
#include "sandbox/process_spawner.h"
#include "store/local_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

std::string digest_of_file(const Path& path) {
  const Fd file = open_file(path, O_RDONLY).value();
  return hash_file(file.get()).value();
}

Path beside() { return std::filesystem::read_symlink("/proc/self/exe").parent_path(); }

Path models() {
  if (const char* given = std::getenv("MAYFLY_MODELS")) return given;
  return beside() / "../../models";
}

bool possible(const std::string& model) {
  if (std::filesystem::is_directory(models() / model) &&
      std::filesystem::exists(beside() / "mayfly-runner")) {
    return true;
  }
  MESSAGE("no mayfly-runner or no model '", model, "': run `make build models`");
  return false;
}

struct Node {
  Node() {
    REQUIRE(make_directories(dir.path() / "compiled").has_value());
    REQUIRE(make_directories(dir.path() / "tmp").has_value());
    if (auto support = detect_cgroups(cgroup_fs); support && support->limits_memory()) {
      auto opened = NodeCgroups::open(cgroup_fs, *support, fmt::format("publish{}", ::getpid()));
      REQUIRE(opened.has_value());
      cgroups.emplace(*std::move(opened));
    }
    auto made = ProcessSpawner::create(
        loop, {.runner = beside() / "mayfly-runner",
               .cgroups = cgroups ? &*cgroups : nullptr,
               .on_log = [](std::string_view, std::string_view line) { MESSAGE(line); }});
    REQUIRE(made.has_value());
    spawner = *std::move(made);
    REQUIRE(loop.run(wait_ready()).has_value());
    publisher.emplace(loop, pool, *spawner,
                      Publisher::Folders{dir.path() / "compiled", dir.path() / "tmp"},
                      *this_machine(spawner->runtime_version()));
  }

  Task<Status> wait_ready() {
    Future<Status> ready(loop);
    spawner->on_ready(
        [promise = ready.promise()](Status status) mutable { promise.set(std::move(status)); });
    co_return co_await ready;
  }

  PublishRequest request(const std::string& model) const {
    PublishRequest made;
    made.label = model;
    for (const auto& entry : std::filesystem::directory_iterator(models() / model)) {
      if (!entry.is_regular_file()) continue;
      const std::string name = entry.path().filename().native();
      const Digest digest = parse_digest(digest_of_file(entry.path())).value();
      place(entry.path(), digest);
      made.files.push_back({{name, to_string(digest), entry.file_size()}, blobs.get()});
    }
    return made;
  }

  // Without its copy and its digest, which nobody looks at here: models may be large.
  void place(const Path& file, const Digest& digest) const {
    const Path blob = blobs->path_of(digest);
    if (std::filesystem::exists(blob)) return;
    std::filesystem::create_directories(blob.parent_path());
    std::error_code error;
    std::filesystem::create_hard_link(file, blob, error);
    if (error) std::filesystem::copy_file(file, blob);
  }

  Result<Published> publish(const std::string& model) {
    return loop.run(publisher->publish(request(model), {}));
  }

  TempDir dir = *TempDir::create();
  std::unique_ptr<LocalBlobStore> blobs =
      LocalBlobStore::open(dir.path() / "blobs", dir.path() / "tmp").value();
  RealCgroupFs cgroup_fs;
  std::optional<NodeCgroups> cgroups;
  Loop loop;
  Pool pool{loop, "publish", 1};
  std::unique_ptr<ProcessSpawner> spawner;
  std::optional<Publisher> publisher;
};

}  // namespace

TEST_CASE("models are published inside the jail") {
  for (const char* model : {"logistic_zipmap", "iris", "string_upper", "random_normal"}) {
    if (!possible(model)) return;
    Node node;
    CAPTURE(model);
    const auto published = node.publish(model);
    REQUIRE_MESSAGE(published.has_value(), (published ? "" : published.error().message));
    CHECK(published->report.trial.accepted);
    for (const Candidate& candidate : published->report.candidates) CHECK(candidate.skipped == "");
    CHECK(std::filesystem::exists(published->compiled / "load.json"));
    CHECK(std::filesystem::is_empty(node.dir.path() / "tmp"));
  }
}

TEST_CASE("what the jail refuses comes back with its reason") {
  if (!possible("custom_op")) return;
  Node node;
  const auto refused = node.publish("custom_op");
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().reason == reason::kInvalidModel);
  const auto crashed = node.publish("crash_on_load");
  REQUIRE_FALSE(crashed.has_value());
  CHECK(crashed.error().reason == reason::kPublishFailed);
  CHECK(node.publish("iris").has_value());
}

TEST_CASE("a publish that hangs ends at its limit, and names its step") {
  if (!possible("hang")) return;
  Node node;
  PublishRequest request = node.request("hang");
  request.options.publish_timeout = 3s;
  const auto published = node.loop.run(node.publisher->publish(request, {}));
  REQUIRE_FALSE(published.has_value());
  CAPTURE(published.error().message);
  CHECK(published.error().message.find("in step 'try") != std::string::npos);
  CHECK(std::filesystem::is_empty(node.dir.path() / "tmp"));
}

TEST_CASE("a model that eats memory is stopped at publish_memory, and the next publish works") {
  if (!possible("greedy")) return;
  Node node;
  if (!node.cgroups) {
    MESSAGE("skipped: no control group limits memory here");
    return;
  }
  PublishRequest request = node.request("greedy");
  request.options.publish_memory = mib(512);
  const auto published = node.loop.run(node.publisher->publish(request, {}));
  REQUIRE_FALSE(published.has_value());
  CAPTURE(published.error().message);
  CHECK(published.error().reason == reason::kPublishFailed);
  CHECK(published.error().message.find("memory") != std::string::npos);
  CHECK(node.publish("iris").has_value());
}

// Minutes and 13 GB of disk: run by `ctest -L large`, after `make_models.py build/models --only
// mlp6g`.
TEST_CASE("a 6 GB model is published within 2 GiB" * doctest::skip()) {
  if (!possible("mlp6g")) return;
  Node node;
  if (!node.cgroups) {
    MESSAGE("skipped: no control group limits memory here");
    return;
  }
  const auto published = node.publish("mlp6g");
  REQUIRE_MESSAGE(published.has_value(), (published ? "" : published.error().message));
  CHECK(published->report.weight_bytes == std::uint64_t{6} << 30);
  CHECK(published->report.candidates[published->report.chosen].private_bytes < mib(64));
  CHECK(published->peak_memory <= gib(2));
}
