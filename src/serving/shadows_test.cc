#include "serving/shadows.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "async/pool.h"
#include "base/rng.h"
#include "dispatch/testing/test_node.h"
#include "meter/ledger_reader.h"
#include "registry/testing/registry_fixture.h"
#include "store/local_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

const CompileTarget kTarget{"1.31.1", "x86_64 avx2"};

class NothingToPublish final : public JobRunner {
 public:
  Result<std::unique_ptr<Job>> run_job(JobSpec, JobEvents) override {
    return fail(Code::Unavailable, "everything here is compiled");
  }
};

// Functions whose version 1 is shadowed by version 2, on a node of fake processes.
struct ShadowRig {
  ~ShadowRig() { loop.run(shadows.close()); }

  ServingRef deploy(const std::string& name) {
    for (const char* content : {"one", "two"}) {
      fixture.deploy(name, content);
      compile(name, manifest_with(content));
    }
    const auto traffic = parse_traffic(R"({"weights":{"1":100},"shadows":{"2":100}})");
    REQUIRE(fixture.registry->split(name_of(name), traffic.value(), fixture.alice).has_value());
    catalog.publish(fixture.registry->snapshot());
    REQUIRE(loop.run(catalog.find(name, "2")).has_value());  // so that no copy waits for the pool
    return loop.run(catalog.find(name, "1")).value();
  }
  void remove(const Serving& serving) {
    REQUIRE(fixture.registry->remove(name_of(serving.function), fixture.alice).has_value());
    catalog.publish(fixture.registry->snapshot());
    shadows.forget(serving.runtime->key.function);
  }
  Script& script(const std::string& name) { return node.spawner.script(name + "@2-shadow"); }

  // Of a request of so many bytes, whose caller waits yet.
  std::optional<Shadows::Copy> copy(const ServingRef& serving, std::uint64_t bytes = 120) {
    const auto rows = static_cast<std::int64_t>(bytes / 120);
    const InputPlan input{.index = 0, .type = DataType::Fp32, .shape = {rows, 30}, .bytes = bytes};
    RequestMemory request = *RequestMemory::allocate(*RequestLayout::plan({input}, {0}), 0);
    return shadows.copy(serving, 1, request);
  }
  void answer(Shadows::Copy copy) {
    REQUIRE(shadows.keep(copy, Reply{}));
    shadows.offer(std::move(copy), "r", 30s);
  }
  // So many requests of it, and their answers.
  void ask(const ServingRef& serving, std::size_t times = 1) {
    for (std::size_t i = 0; i < times; ++i) {
      if (auto taken = copy(serving)) answer(*std::move(taken));
    }
  }
  // Lets what is due now happen, templates included.
  void settle() {
    for (int i = 0; i < 4; ++i) {
      loop.poll();
      loop.run(nothing(pool));
    }
    loop.poll();
  }
  void run_for(Duration time) {
    for (Duration gone{}; gone < time; gone += 10ms) {
      node.advance(10ms);
      settle();
    }
  }
  Comparison result(const ServingRef& serving) const {
    const auto& pairs = shadows.comparisons(serving->runtime->key.function);
    const auto found = pairs.find({1, 2});
    return found == pairs.end() ? Comparison{} : found->second;
  }

  TestNode node{{.cores = 2, .memory = gib(4)}};
  Loop& loop = node.loop;
  RegistryFixture fixture;
  Path root = fixture.folder.path();
  Pool pool{loop, "read", 1};
  NothingToPublish jobs;
  std::unique_ptr<LocalBlobStore> blobs =
      LocalBlobStore::open(root / "blobs", root / "tmp").value();
  Publisher publisher{
      loop, pool, jobs, {.compiled = root / "compiled", .tmp = root / "tmp"}, kTarget};
  QuotaGate quotas{{loop, pool, [] { return QuotaGate::Used{}; }}};
  Catalog catalog{{*fixture.registry, *blobs, publisher, pool, quotas}};
  std::unique_ptr<Ledger> ledger = Ledger::open(root / "ledger", node.clock, {}).value();
  LedgerWriter writer{loop, *ledger};
  SystemRng rng;
  InvocationIds ids{node.clock, rng};
  Shadows shadows{{loop, catalog, node.dispatcher, writer, ids}};

 private:
  void compile(const std::string& name, const Manifest& manifest) {
    Report report;
    report.runtime_version = kTarget.runtime;
    report.signature = manifest.signature;
    report.candidates = {Candidate{}};
    report.files = {{"load.json", 2}};
    const Path out = root / "out";
    REQUIRE(make_directories(out).has_value());
    REQUIRE(make_directories(root / "compiled").has_value());
    REQUIRE(write_file_durably(out / "load.json", "{}").has_value());
    REQUIRE(publisher.forms()
                .install(compiled_key(project_of(name), manifest.files, manifest.options, kTarget),
                         {.target = kTarget, .report = report, .out = out})
                .has_value());
  }
  static Task<void> nothing(Pool& pool) {
    co_await pool.run([] {});
  }
};

}  // namespace

TEST_CASE("a copy runs once its caller is answered, and is recorded as a shadow's") {
  ShadowRig rig;
  const ServingRef f = rig.deploy("team/f");
  auto taken = rig.copy(f);
  rig.settle();
  CHECK(rig.node.spawner.forks() == 0);
  rig.answer(*std::move(taken));
  rig.settle();
  CHECK(rig.result(f).agreed == 1);
  std::vector<InvocationRecord> records;
  const auto keep = [&](const InvocationRecord& record) -> Status {
    records.push_back(record);
    return {};
  };
  REQUIRE(for_each_record(rig.root / "ledger", {}, keep).has_value());
  REQUIRE(records.size() == 1);
  CHECK(records[0].caller == kShadowCaller);
  CHECK(records[0].project == "team");
  CHECK(records[0].version.value == 2);
}

TEST_CASE("however many and slow the copies of one project, those of another run") {
  ShadowRig rig;
  const ServingRef slow = rig.deploy("aa/f");
  const ServingRef other = rig.deploy("bb/f");
  rig.script("aa/f").fate = Fate::Hangs;
  rig.ask(slow, 100);
  rig.settle();
  rig.ask(other, 10);
  rig.settle();
  CHECK(rig.result(other).compared == 10);
  CHECK(rig.result(other).dropped == 0);
  CHECK(rig.result(slow).compared == 0);
  CHECK(rig.result(slow).dropped == 100 - Shadows::kWaiting);
  CHECK(rig.node.version("aa/f@2-shadow")->running == 1);  // one of a project
}

TEST_CASE("requests whose callers wait yet take no place of those that are answered") {
  ShadowRig rig;
  const ServingRef f = rig.deploy("f");
  std::vector<Shadows::Copy> unanswered;
  for (std::size_t i = 0; i < 2 * Shadows::kWaiting; ++i) unanswered.push_back(*rig.copy(f));
  rig.ask(f);
  rig.settle();
  CHECK(rig.result(f).compared == 1);
  CHECK(rig.result(f).dropped == 0);
}

TEST_CASE("copies run for a few projects at a time, who take turns") {
  ShadowRig rig;
  std::vector<ServingRef> busy;
  for (std::size_t i = 0; i < Shadows::kRunning; ++i) {
    const std::string name = std::string(2, static_cast<char>('a' + i)) + "/f";
    busy.push_back(rig.deploy(name));
    rig.script(name).run = 1s;
    rig.ask(busy.back(), 5);
  }
  const ServingRef last = rig.deploy("zz/f");
  rig.ask(last, 2);
  rig.run_for(500ms);
  CHECK(rig.node.spawner.instances().size() == Shadows::kRunning);
  CHECK(rig.result(last).compared == 0);
  rig.run_for(1s);  // the first runs have ended
  CHECK(rig.result(last).compared == 1);
  rig.run_for(1s);
  CHECK(rig.result(last).compared == 2);
  for (const ServingRef& one : busy) CHECK(rig.result(one).dropped == 0);
}

TEST_CASE("no project's copies hold more memory than is left to others") {
  ShadowRig rig;
  const ServingRef f = rig.deploy("aa/f");
  const ServingRef other = rig.deploy("bb/f");
  constexpr std::uint64_t kLarge = Shadows::kLargest.count / 120 * 120;
  constexpr std::size_t kFit = Shadows::kMemory.count / Shadows::kLargest.count;
  const auto fill = [&](const ServingRef& of) {
    std::vector<Shadows::Copy> held;
    while (auto taken = rig.copy(of, kLarge)) held.push_back(*std::move(taken));
    return held;
  };
  {
    const auto held = fill(f);
    CHECK(held.size() == kFit / 2);
    CHECK(fill(other).size() == kFit / 4);
    CHECK(rig.result(f).dropped == 1);
    CHECK(rig.result(other).dropped == 1);
    CHECK(rig.copy(other).has_value());
  }
  CHECK(fill(f).size() == kFit / 2);  // all of it was given back
}

TEST_CASE("small copies count for more than their bytes, and what is too large is not copied") {
  ShadowRig rig;
  const ServingRef f = rig.deploy("f");
  std::vector<Shadows::Copy> held;
  while (auto taken = rig.copy(f)) held.push_back(*std::move(taken));
  CHECK(held.size() == Shadows::kMemory.count / kInlineRequest / 2);
  held.clear();
  CHECK_FALSE(rig.copy(f, Shadows::kLargest.count + 120).has_value());
  CHECK(rig.result(f).dropped == 2);
}

TEST_CASE("copies wait for a core that callers leave, and not for long") {
  ShadowRig rig;
  const ServingRef f = rig.deploy("f");
  rig.node.spawner.script("f900@1").run = 3s;
  const auto version = TestNode::share(rig.node.runtime(900));
  const auto callers = std::vector{rig.node.call(version), rig.node.call(version)};
  rig.settle();
  rig.ask(f);
  rig.run_for(2s);
  CHECK(rig.result(f).compared == 0);
  rig.run_for(2s);
  CHECK(callers[0]->ok());
  CHECK(rig.result(f).compared == 1);

  rig.node.spawner.script("f900@1").run = 20s;
  const auto long_ones = std::vector{rig.node.call(version), rig.node.call(version)};
  rig.settle();
  rig.ask(f, 3);
  rig.run_for(Shadows::kPatience + 100ms);
  CHECK(rig.result(f).compared == 1);
  CHECK(rig.result(f).dropped == 3);
}

TEST_CASE("a deleted function is forgotten, whatever of it comes afterwards") {
  ShadowRig rig;
  const ServingRef f = rig.deploy("f");
  const FunctionId id = f->runtime->key.function;
  rig.script("f").fate = Fate::Hangs;
  rig.ask(f, 3);
  auto unanswered = rig.copy(f);
  rig.settle();
  rig.remove(*f);
  CHECK_FALSE(rig.copy(f, 2 * Shadows::kLargest.count).has_value());
  rig.answer(*std::move(unanswered));
  rig.run_for(6s);  // longer than a run may take
  CHECK(rig.shadows.comparisons(id).empty());
}
