#include "cli/rollout_watch.h"

#include <nlohmann/json.hpp>
#include <string>

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

CliJson about(const std::string& text) { return CliJson::parse(text); }

std::string state_of(const std::string& text, std::uint64_t version) {
  return rollout_of_version(about(text), version).value("state", "");
}

constexpr const char* kHolds =
    R"({"state":"running","version":2,"steps":["shadow 100 %","100 %"],"step":0,
    "decision":{"move":"hold","why":"so","findings":[]},"decisions":[]})";

}  // namespace

TEST_CASE("how a version's rollout stands is told by its state, then by its last decision") {
  CHECK(state_of(kHolds, 2) == "running");
  CliJson held = about(kHolds);
  held["held"] = "approve it";
  CHECK(state_of(held.dump(), 2) == "held");
  CHECK(rollout_of_version(held, 2)["why"] == "approve it");
  const std::string ended = R"({"state":"none","decisions":[
    {"change":{"version":3,"what":"done","why":"passed","judged_on":"held-out rows"}},
    {"change":{"version":3,"what":"start"}},
    {"change":{"version":2,"what":"superseded","why":"superseded by version 3"}},
    {"change":{"version":1,"what":"rollback","why":"worse"}}]})";
  CHECK(state_of(ended, 3) == "promoted");
  CHECK(rollout_of_version(about(ended), 3)["judged_on"] == "held-out rows");
  CHECK(state_of(ended, 2) == "superseded");
  CHECK(rollout_of_version(about(ended), 1)["why"] == "worse");
  CHECK(state_of(ended, 1) == "rolled_back");
  CHECK(state_of(R"({"state":"none","decisions":[]})", 1) == "running");
  const std::string unsaid =
      R"({"state":"none","decisions":[{"change":{"version":2,"what":"start"}},
    {"change":{"version":1,"what":"done"}}]})";
  CHECK(state_of(unsaid, 2) == "ended");
  CHECK(state_of(unsaid, 1) == "promoted");
}

TEST_CASE("what does not serve although it was to has an exit code") {
  CHECK(exit_of_rollout(CliJson::object()) == 0);
  CHECK(exit_of_rollout({{"state", "none"}}) == 0);
  CHECK(exit_of_rollout({{"state", "promoted"}}) == 0);
  CHECK(exit_of_rollout({{"state", "held"}}) == 12);
  for (const char* state : {"rolled_back", "aborted", "superseded", "ended", "not_started"})
    CHECK(exit_of_rollout({{"state", state}}) == 11);
}
