#include "serving/rehearsal.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "serving/testing/shadow_rig.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

// Rehearsals of function f, versions 1 and 2.
struct RehearsalRig : ShadowRig {
  RehearsalRig() { deploy("f"); }

  using Seen = std::optional<Result<rollout::HeldOut>>;
  // `passes`: after so many what was seen decides.
  void begin(Seen& seen, int passes) { loop.spawn(ask(seen, passes)); }
  Task<void> ask(Seen& seen, int passes) {
    const HeldOutAsk wanted{
        .function = name_of("f"), .champion = {1}, .challenger = {2}, .least = 2};
    seen = co_await rehearsal.run(
        wanted, [left = passes](const rollout::HeldOut&) mutable { return --left == 0; },
        stop.token());
  }

  CancelSource stop;
  std::size_t found = 0;  // how often rows were found
  std::vector<std::string> rows{row(1), row(2), row(3)};
  Rehearsal rehearsal{
      {.loop = loop, .catalog = catalog, .shadows = shadows, .find_rows = [this](HeldOutAsk) {
         return find_rows();
       }}};

 private:
  static std::string row(int value) {
    std::string data = std::to_string(value);
    for (int i = 1; i < 30; ++i) data += ",0";
    return R"({"inputs":[{"name":"x","shape":[1,30],"datatype":"FP32","data":[)" + data + "]}]}";
  }
  Task<Result<std::vector<std::string>>> find_rows() {
    ++found;
    co_return rows;
  }
};

}  // namespace

TEST_CASE("both versions are asked about each row, which counts once, until that decides") {
  RehearsalRig rig;
  RehearsalRig::Seen seen;
  rig.begin(seen, 4);
  rig.run_for(1s);
  REQUIRE(seen.has_value());
  REQUIRE(seen->has_value());
  CHECK((*seen)->rows == 3);
  for (const rollout::Evidence* side : {&(*seen)->champion, &(*seen)->challenger}) {
    CHECK(side->requests == 3);
    CHECK(side->errors == 0);
    CHECK(side->timed() == 12);
  }
  CHECK((*seen)->challenger.agreement.compared == 3);
}

TEST_CASE("a rehearsal that finds no room gives up, and does not ask for ever") {
  RehearsalRig rig;
  rig.node.spawner.script("f900@1").run = 10min;
  const auto version = TestNode::share(rig.node.runtime(900));
  const auto callers = std::vector{rig.node.call(version, 20min), rig.node.call(version, 20min)};
  rig.settle();
  RehearsalRig::Seen seen;
  rig.begin(seen, 1);
  rig.run_for(Rehearsal::kPatience / 2);
  CHECK_FALSE(seen.has_value());
  rig.run_for(Rehearsal::kPatience);
  REQUIRE(seen.has_value());
  REQUIRE_FALSE(seen->has_value());
  CHECK(seen->error().code == Code::ResourceExhausted);
  CHECK(seen->error().message.contains("the node has no room for guests"));
}

TEST_CASE("rehearsals take turns, and who waits for his may leave") {
  RehearsalRig rig;
  rig.script("f").run = 1s;
  RehearsalRig::Seen first;
  RehearsalRig::Seen second;
  rig.begin(first, 1);
  rig.begin(second, 1);
  rig.run_for(2s);
  CHECK(rig.found == 1);
  rig.run_for(2500ms);
  CHECK(first.has_value());
  CHECK(rig.found == 2);
  rig.stop.cancel();
  rig.settle();
  REQUIRE(second.has_value());
  CHECK(second->error().code == Code::Cancelled);
}
