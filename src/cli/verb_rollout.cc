// mayfly rollout: a new version that climbs by itself, and why it climbs, holds or goes back.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/table.h"
#include "cli/traffic_view.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/reason.h"

namespace mayfly {
namespace {

void print_rollout(const CliJson& about) {
  if (about.value("state", "") == "running") {
    print_running_rollout(about);
  } else {
    fmt::print("no rollout of {} is under way\n", about.value("function", ""));
  }
  const CliJson& decisions = about["decisions"];
  if (decisions.empty()) return;
  Table table({"WHEN", "WHO", "VERSION", "STEP", "WHAT", "WHY"});
  for (const CliJson& line : decisions) {
    const CliJson& change = line["change"];
    table.add({line.value("time", ""), line.value("who", ""),
               std::to_string(change.value("version", 0)), change.value("now", ""),
               change.value("what", ""), change.value("why", "")});
  }
  fmt::print("\n{}", table.str());
}

struct RolloutFlags {
  std::string name;
  std::string action = "show";
  std::uint32_t version = 0;
  std::string plan = "auto";
};

Result<CliJson> act(const RolloutFlags& flags, NodeClient& node) {
  const std::string path = function_path(flags.name) + "/rollout";
  if (flags.action == "show") return node.get(path);
  if (flags.action == "abort") return node.send("DELETE", path, CliJson());
  if (flags.action != "start") {
    return node.send("POST", path + "/" + flags.action, CliJson::object());
  }
  if (flags.version == 0) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("name the version: mayfly rollout {} start VERSION", flags.name));
  }
  const CliJson body{{"version", flags.version}, {"plan", TRY(read_rollout_plan(flags.plan))}};
  return node.send("POST", path, body);
}

Status rollout(const RolloutFlags& flags, const CliContext& context) {
  TRY(FunctionName::parse(flags.name));
  NodeClient node = context.node();
  const CliJson about = TRY(act(flags, node));
  if (context.json) {
    print_json(about);
  } else {
    print_rollout(about);
  }
  return {};
}

}  // namespace

Result<CliJson> read_rollout_plan(const std::string& plan) {
  if (plan == "auto") return CliJson::object();
  const std::string text = TRY(read_file(plan));
  CliJson json = CliJson::parse(text, nullptr, false);
  if (json.is_discarded())
    return refuse(reason::kInvalidSetting, fmt::format("{}: this is no JSON", plan));
  return json;
}

void add_rollout_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("rollout", "Show, start or decide the automatic rollout of a version");
  auto flags = std::make_shared<RolloutFlags>();
  verb->add_option("NAME", flags->name, "the function")->required();
  verb->add_option(
          "ACTION", flags->action,
          "show (default), start VERSION, approve (a shift of outputs), pause, resume, abort")
      ->check(CLI::IsMember({"show", "start", "approve", "pause", "resume", "abort"}));
  verb->add_option("VERSION", flags->version, "of start");
  verb->add_option("--plan", flags->plan,
                   "of start: auto, or a JSON file as docs/traffic.md describes it");
  verb->callback([flags, &context] { context.outcome = rollout(*flags, context); });
}

}  // namespace mayfly
