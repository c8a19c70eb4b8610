#include "cli/rollout_watch.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>
#include <utility>

#include "cli/table.h"

namespace mayfly {
namespace {

constexpr std::chrono::milliseconds kRolloutAsk(500);
// That find it held or ended: a hold may pass by itself, and how it ended is written a moment
// later.
constexpr int kSteadyLooks = 10;
constexpr std::chrono::seconds kSilentNode(60);
constexpr int kNotPromotedExit = 11;
constexpr int kHeldExit = 12;

struct Ending {
  std::string_view what, state;
};
constexpr std::array<Ending, 6> kEndings = {{{"done", "promoted"},
                                             {"rollback", "rolled_back"},
                                             {"abort", "aborted"},
                                             {"superseded", "superseded"},
                                             {"ended", "ended"},
                                             {"not_started", "not_started"}}};

CliJson running_rollout(const CliJson& about, std::uint64_t version) {
  CliJson rollout{{"version", version}, {"state", "running"}};
  const CliJson steps = about.value("steps", CliJson::array());
  const std::size_t step = about.value("step", std::size_t{0});
  if (step < steps.size()) rollout["step"] = steps[step];
  rollout["why"] = about.value("decision", CliJson::object()).value("why", "");
  if (about.contains("held")) {
    rollout["state"] = "held";
    rollout["why"] = about["held"];
  }
  return rollout;
}

}  // namespace

CliJson rollout_of_version(const CliJson& about, std::uint64_t version) {
  if (about.value("state", "") == "running" && about.value("version", std::uint64_t{0}) == version)
    return running_rollout(about, version);
  // The newest comes first.
  for (const CliJson& line : about.value("decisions", CliJson::array())) {
    const CliJson change = line.value("change", CliJson::object());
    if (change.value("version", std::uint64_t{0}) != version) continue;
    for (const Ending& ending : kEndings) {
      if (change.value("what", "") != ending.what) continue;
      CliJson rollout{{"version", version},
                      {"state", ending.state},
                      {"why", change.value("why", line.value("why", ""))}};
      if (change.contains("judged_on")) rollout["judged_on"] = change["judged_on"];
      return rollout;
    }
    return {{"version", version},
            {"state", "ended"},
            {"why", "it is under way no more, and the history does not say how it ended"}};
  }
  return {{"version", version}, {"state", "running"}, {"why", "it begins"}};
}

Result<CliJson> follow_rollout(NodeClient& node, const std::string& name, std::uint64_t version) {
  using Clock = std::chrono::steady_clock;
  ProgressLine line;
  Clock::time_point heard = Clock::now();
  int steady = 0;
  bool said = false;
  while (true) {
    auto about = node.get(function_path(name) + "/rollout");
    if (about) {
      heard = Clock::now();
      CliJson rollout = rollout_of_version(*about, version);
      const std::string state = rollout.value("state", "");
      const bool may_change = state == "held" || state == "ended";
      steady = may_change ? steady + 1 : 0;
      if ((state != "running" && !may_change) || steady == kSteadyLooks) return rollout;
      if (!std::exchange(said, true))
        fmt::print(stderr, "its rollout is under way: mayfly rollout {} says how far it is\n",
                   name);
      line.show(fmt::format("version {} is rolled out, {}: {}", version, rollout.value("step", ""),
                            rollout.value("why", "")));
    } else if (about.error().code != Code::Unavailable || Clock::now() - heard > kSilentNode) {
      return about;
    }
    std::this_thread::sleep_for(kRolloutAsk);
  }
}

int exit_of_rollout(const CliJson& rollout) {
  const std::string state = rollout.value("state", "none");
  if (state == "none" || state == "promoted") return 0;
  return state == "held" ? kHeldExit : kNotPromotedExit;
}

}  // namespace mayfly
