// Functions that Mayfly brings along, on real stores; the jail of publishing is played.
#include "serving/shipped_functions.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/reason.h"
#include "serving/testing/publishing_rig.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

struct ShippedRig : PublishingRig {
  ShippedFunctions shipped{{.loop = loop,
                            .pool = pool,
                            .folder = made("shipped"),
                            .blobs = *blobs,
                            .owners = *owners,
                            .pins = pins,
                            .catalog = catalog,
                            .publisher = publisher,
                            .traffic = traffic}};
  CancelSource stop;
  std::vector<std::string> told;

  ShippedRig() { ship("def train(ctx): ..."); }

  void ship(std::string_view source) const {
    const Path folder = made("shipped/cnn");
    REQUIRE(write_file_durably(folder / "function.py", source).has_value());
    REQUIRE(write_file_durably(folder / "options.json", R"({"runtime":"python"})").has_value());
  }
  ShippedFunctions::Ask ask(const std::string& project) {
    return {.project = project,
            .shipped = "cnn",
            .who = "alice",
            .told = [this](std::string_view step) { told.emplace_back(step); },
            .cancel = stop.token()};
  }
  Result<ServingRef> provide(const std::string& project = "default") {
    return loop.run(shipped.provide(ask(project)));
  }
  using Answer = std::optional<Result<ServingRef>>;
  static Task<void> begin(ShippedFunctions& shipped, ShippedFunctions::Ask ask, Answer& answer) {
    answer = co_await shipped.provide(std::move(ask));
  }
  void wait_for(const Answer& answer) {
    for (int turn = 0; !answer && turn < 1'000'000; ++turn) loop.run(breathe(pool));
    REQUIRE(answer.has_value());
  }
  static Task<void> breathe(Pool& pool) {
    co_await pool.run([] {});
  }
};

TEST_CASE("what Mayfly brings along becomes a version of a project that needs it, once") {
  ShippedRig rig;
  CHECK(rig.loop.run(rig.shipped.find("default", "cnn")).value() == nullptr);
  const auto first = rig.provide();
  REQUIRE_MESSAGE(first.has_value(), first.error().message);
  CHECK((*first)->function == "mayfly.cnn");
  CHECK((*first)->version.value == 1);
  CHECK(rig.fixture.registry->snapshot()->find("mayfly.cnn")->routing->waiting);
  CHECK((*rig.provide())->version.value == 1);
  CHECK(rig.loop.run(rig.shipped.find("default", "cnn")).value()->version.value == 1);
  CHECK(rig.jails.runs == 1);
}

TEST_CASE("another project has its own, and another source is the next version") {
  ShippedRig rig;
  REQUIRE(rig.provide().has_value());
  const auto other = rig.provide("shop");
  REQUIRE_MESSAGE(other.has_value(), other.error().message);
  CHECK((*other)->function != "mayfly.cnn");
  CHECK((*other)->version.value == 1);
  rig.ship("def train(ctx): return 1");
  CHECK(rig.loop.run(rig.shipped.find("default", "cnn")).value() == nullptr);
  CHECK((*rig.provide())->version.value == 2);
  rig.ship("def train(ctx): ...");  // an older Mayfly again
  CHECK((*rig.provide())->version.value == 1);
}

TEST_CASE("of several who need it at once one publishes, and the others wait for that") {
  ShippedRig rig;
  ShippedRig::Answer one, two;
  rig.loop.spawn(ShippedRig::begin(rig.shipped, rig.ask("default"), one));
  rig.loop.spawn(ShippedRig::begin(rig.shipped, rig.ask("default"), two));
  rig.wait_for(one);
  rig.wait_for(two);
  REQUIRE(one->has_value());
  REQUIRE(two->has_value());
  CHECK((**one)->version == (**two)->version);
  CHECK(rig.jails.runs == 1);
  CHECK(std::ranges::find(rig.told, "somebody else's training publishes it") != rig.told.end());
}

TEST_CASE("a publishing that failed is no version, and the next who needs it tries again") {
  ShippedRig rig;
  rig.jails.fails = true;
  CHECK_FALSE(rig.provide().has_value());
  CHECK(rig.fixture.registry->snapshot()->size() == 0);
  rig.jails.fails = false;
  CHECK(rig.provide().has_value());
}

TEST_CASE("a source that is not there is the installation's fault, and says what to do") {
  ShippedRig rig;
  std::filesystem::remove(rig.root / "shipped/cnn/function.py");
  const auto refused = rig.provide();
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == Code::FailedPrecondition);
  CHECK(refused.error().message.contains("install it again"));
}

}  // namespace
}  // namespace mayfly
