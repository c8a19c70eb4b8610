#include "serving/quota_gate.h"

#include <optional>
#include <vector>

#include "base/testing/fake_clock.h"
#include "core/caller_reason.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

struct QuotaFixture {
  FakeClock clock;
  Loop loop{clock};
  Pool pool{loop, "control", 1};
  TempDir folder = TempDir::create().value();
  std::unique_ptr<ProjectStore> projects =
      ProjectStore::open(folder.path() / "identity.db").value();
  double used = 0;  // of a month, by the project `a`
  QuotaGate gate{
      {.loop = loop, .pool = pool, .usage = [this] { return QuotaGate::Used{{"a", used}}; }}};

  void set(const char* project, const char* quotas) {
    REQUIRE(projects->change(project, quotas).has_value());
    gate.publish(*projects->table());
  }
  // The first word of the refusal: the quota's name.
  std::string refusal(const char* project = "a") {
    const auto place = gate.enter(project);
    if (place) return "";
    CHECK(place.error().reason == reason::kQuotaExceeded);
    return place.error().message.substr(0, place.error().message.find(':'));
  }
};

}  // namespace

TEST_CASE("a project over its rate is refused, and no other is") {
  QuotaFixture f;
  f.set("a", R"({"requests_per_second": 2})");
  CHECK(f.refusal().empty());
  CHECK(f.refusal().empty());
  CHECK(f.refusal() == "requests_per_second");
  CHECK(f.refusal("b").empty());
  f.clock.advance(500ms);
  CHECK(f.refusal().empty());
  CHECK(f.refusal() == "requests_per_second");
  f.set("a", R"({"requests_per_second": 0})");
  for (int i = 0; i < 10; ++i) CHECK(f.refusal().empty());
}

TEST_CASE("a project has as many predictions at the same time as its quota says") {
  QuotaFixture f;
  f.set("a", R"({"concurrency": 2})");
  std::optional<QuotaGate::Place> first = f.gate.enter("a").value();
  const QuotaGate::Place second = f.gate.enter("a").value();
  CHECK(f.refusal() == "concurrency");
  f.set("a", R"({"requests_per_second": 100})");  // what is under way still counts
  CHECK(f.refusal() == "concurrency");
  f.set("a", R"({"concurrency": 0, "requests_per_second": 0})");
  f.set("a", R"({"concurrency": 2})");
  CHECK(f.refusal() == "concurrency");
  first.reset();
  CHECK(f.refusal().empty());
}

TEST_CASE("limits of memory and of stored bytes reach who holds them, whenever they change") {
  QuotaFixture f;
  const auto before = f.gate.memory_of("a");
  CHECK(before->limit == Bytes{});
  f.set("a", R"({"memory": "64MiB", "stored_bytes": "1GiB"})");
  CHECK(before->limit == mib(64));
  CHECK(f.gate.memory_of("a") == before);
  CHECK(f.gate.memory_of("b")->limit == Bytes{});
  CHECK(f.gate.stored_limit("a") == gib(1));
  CHECK(f.gate.stored_limit("b") == Bytes{});
  f.set("a", R"({"memory": "0"})");
  CHECK(before->limit == Bytes{});
}

TEST_CASE("a project that has used its month is refused until a look finds less") {
  QuotaFixture f;
  f.set("a", R"({"gb_seconds_per_month": 10})");
  f.set("b", R"({"gb_seconds_per_month": 10})");
  f.used = 10;
  f.gate.publish(*f.projects->table());
  f.loop.run(f.gate.refresh());
  CHECK(f.refusal() == "gb_seconds_per_month");
  CHECK(f.refusal("b").empty());
  f.used = 0;
  CHECK(f.refusal() == "gb_seconds_per_month");
  f.loop.run(f.gate.refresh());
  CHECK(f.refusal().empty());
  f.loop.run(f.gate.close());
}

TEST_CASE("what shadows run is billed and uses nothing of the month") {
  InvocationRecord record;
  record.project = "a";
  record.function = "f";
  record.tier = StartTier::Hot;
  record.memory_limit = gib(1);
  record.run = 3s;
  UsageTable usage;
  usage.add(record);
  record.caller = kShadowCaller;
  usage.add(record);
  CHECK(usage.rows().begin()->second.memory_time == Uint128{6'000'000} << 30);
  CHECK(QuotaGate::use_of(usage) == QuotaGate::Used{{"a", 3.0}});
}
