// Versions and the shadows that are asked beside them, on a node of fake processes.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "async/pool.h"
#include "base/rng.h"
#include "dispatch/testing/test_node.h"
#include "meter/ledger_reader.h"
#include "registry/testing/registry_fixture.h"
#include "serving/shadows.h"
#include "store/local_blob_store.h"

#include <doctest/doctest.h>

namespace mayfly {

inline const CompileTarget kShadowTarget{"1.31.1", "x86_64 avx2"};

class NothingToPublish final : public JobRunner {
 public:
  Result<std::unique_ptr<Job>> run_job(JobSpec, JobEvents) override {
    return fail(Code::Unavailable, "everything here is compiled");
  }
};

// Functions whose version 1 is shadowed by version 2, on a node of fake processes.
struct ShadowRig {
  static constexpr Duration kBeat = std::chrono::milliseconds(10);

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
    shadows.offer(std::move(copy), "r", std::chrono::seconds(30));
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
    for (Duration gone{}; gone < time; gone += kBeat) {
      node.advance(kBeat);
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
      loop, pool, jobs, {.compiled = root / "compiled", .tmp = root / "tmp"}, kShadowTarget};
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
    report.runtime_version = kShadowTarget.runtime;
    report.signature = manifest.signature;
    report.candidates = {Candidate{}};
    report.files = {{"load.json", 2}};
    const Path out = root / "out";
    REQUIRE(make_directories(out).has_value());
    REQUIRE(make_directories(root / "compiled").has_value());
    REQUIRE(write_file_durably(out / "load.json", "{}").has_value());
    REQUIRE(publisher.forms()
                .install(
                    compiled_key(project_of(name), manifest.files, manifest.options, kShadowTarget),
                    {.target = kShadowTarget, .report = report, .out = out})
                .has_value());
  }
  static Task<void> nothing(Pool& pool) {
    co_await pool.run([] {});
  }
};

}  // namespace mayfly
