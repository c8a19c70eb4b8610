// mayfly traffic, alias, rollback, history: which version gets the requests, and who changed that.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/table.h"
#include "cli/traffic_view.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/reason.h"

namespace mayfly {
namespace {

void show(const CliJson& traffic, const CliContext& context) {
  if (context.json) {
    print_json(traffic);
  } else {
    print_traffic(traffic);
  }
}

// "3=95", "5=10%" → version and percent.
Result<std::pair<std::string, int>> parse_share(const std::string& text) {
  const std::size_t equals = text.find('=');
  std::string percent = equals == std::string::npos ? "" : text.substr(equals + 1);
  if (percent.ends_with('%')) percent.pop_back();
  const CliJson number = CliJson::parse(percent, nullptr, false);
  if (!number.is_number_unsigned() || number.get<std::uint64_t>() > 100) {
    return refuse(reason::kInvalidTraffic,
                  fmt::format("'{}': write VERSION=PERCENT, as in 3=95", text));
  }
  TRY(parse_version_number(text.substr(0, equals)));
  return std::pair{text.substr(0, equals), number.get<int>()};
}

Result<CliJson> parse_shares(const std::vector<std::string>& texts) {
  CliJson shares = CliJson::object();
  for (const std::string& text : texts) {
    const auto [version, percent] = TRY(parse_share(text));
    if (shares.contains(version)) {
      return refuse(reason::kInvalidTraffic, fmt::format("version {} is named twice", version));
    }
    if (percent > 0) shares[version] = percent;
  }
  return shares;
}

struct TrafficFlags {
  std::string name;
  std::vector<std::string> weights;
  std::vector<std::string> shadows;
  std::string sticky;
  bool given_sticky = false;
};

Status traffic(const TrafficFlags& flags, const CliContext& context) {
  TRY(FunctionName::parse(flags.name));
  NodeClient node = context.node();
  const std::string path = function_path(flags.name) + "/traffic";
  CliJson now = TRY(node.get(path));
  if (flags.weights.empty() && flags.shadows.empty() && !flags.given_sticky) {
    show(now, context);
    return {};
  }
  // What is not named stays, but weights are always named together with their shadows. Without a
  // split the champion has all, whoever it is by then.
  const bool split = now["weights"].size() > 1;
  CliJson wanted{{"weights", split ? now["weights"] : CliJson::object()},
                 {"shadows", now["shadows"]},
                 {"sticky_header", now["sticky_header"]}};
  if (!flags.weights.empty()) {
    wanted["weights"] = TRY(parse_shares(flags.weights));
    if (wanted["weights"].empty())
      return refuse(reason::kInvalidTraffic, "the weights sum to 0, not 100");
    wanted["shadows"] = CliJson::object();
  }
  if (!flags.shadows.empty()) wanted["shadows"] = TRY(parse_shares(flags.shadows));
  if (flags.given_sticky) wanted["sticky_header"] = flags.sticky;
  show(TRY(node.send("PUT", path, wanted)), context);
  return {};
}

struct AliasFlags {
  std::string name;
  std::string assignment;
  std::optional<std::string> expect;
  std::string why;
  bool remove = false;
};

Result<CliJson> change_alias(const AliasFlags& flags, NodeClient& node) {
  const std::size_t equals = flags.assignment.find('=');
  const std::string alias = flags.assignment.substr(0, equals);
  TRY(check_alias(alias));
  const std::string path = function_path(flags.name) + "/aliases/" + path_segment(alias);
  if (flags.remove) return node.send("DELETE", path, CliJson());
  if (equals == std::string::npos) {
    return refuse(reason::kInvalidTraffic,
                  fmt::format("'{}': write ALIAS=VERSION, as in stable=3", flags.assignment));
  }
  const VersionNumber version = TRY(parse_version_number(flags.assignment.substr(equals + 1)));
  CliJson body{{"version", version.value}};
  if (flags.expect == "none") {
    body["expect"] = nullptr;
  } else if (flags.expect) {
    body["expect"] = TRY(parse_version_number(*flags.expect)).value;
  }
  if (!flags.why.empty()) body["why"] = flags.why;
  return node.send("PUT", path, body);
}

Status alias(const AliasFlags& flags, const CliContext& context) {
  TRY(FunctionName::parse(flags.name));
  if (flags.remove && flags.assignment.empty())
    return refuse(reason::kInvalidTraffic, "name the alias to remove");
  NodeClient node = context.node();
  show(flags.assignment.empty() ? TRY(node.get(function_path(flags.name) + "/traffic"))
                                : TRY(change_alias(flags, node)),
       context);
  return {};
}

Status roll_back(const std::string& name, const CliContext& context) {
  TRY(FunctionName::parse(name));
  const CliJson now =
      TRY(context.node().send("POST", function_path(name) + "/rollback", CliJson::object()));
  if (!context.json) fmt::print("{} goes to version {} again\n", name, now.value("champion", 0));
  show(now, context);
  return {};
}

std::string shown_value(const CliJson& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// "idle_timeout 1m → 2s"; of what is no such pair its facts.
std::string change_text(const CliJson& change) {
  const bool pair = change.contains("before") && change.contains("after");
  const CliJson before = pair ? change["before"] : CliJson::object();
  std::string text;
  for (const auto& [key, value] : (pair ? change["after"] : change).items()) {
    if (pair && before.value(key, CliJson()) == value) continue;
    text += fmt::format("{}{} ", text.empty() ? "" : ", ", key);
    if (pair) text += shown_value(before.value(key, CliJson())) + " → ";
    text += shown_value(value);
  }
  if (const std::string why = change.value("why", ""); pair && !why.empty())
    text += fmt::format("{}why {}", text.empty() ? "" : ", ", why);
  return text;
}

Status history(const std::string& name, const CliContext& context) {
  TRY(FunctionName::parse(name));
  const CliJson list = TRY(context.node().get(function_path(name) + "/history"));
  if (context.json) {
    print_json(list);
    return {};
  }
  Table table({"WHEN", "WHO", "WHAT", "CHANGE"});
  for (const CliJson& item : list["history"]) {
    table.add({item.value("time", ""), item.value("who", ""), item.value("kind", ""),
               change_text(item.value("change", CliJson::object()))});
  }
  fmt::print("{}", table.str());
  return {};
}

}  // namespace

void add_traffic_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand(
      "traffic", "Show or change which versions get a function's requests, and copies of them");
  auto flags = std::make_shared<TrafficFlags>();
  verb->add_option("NAME", flags->name, "the function")->required();
  verb->add_option(
      "VERSION=PERCENT", flags->weights,
      "whole percentages that sum to 100, as in 3=95 4=5; shadows end unless named too");
  verb->add_option("--shadow", flags->shadows,
                   "VERSION=PERCENT of the requests are copied to a version whose answers nobody "
                   "gets; 5=0 ends it");
  verb->add_option_function<std::string>(
      "--sticky",
      [flags](const std::string& header) {
        flags->sticky = header;
        flags->given_sticky = true;
      },
      "requests with the same value of this header meet the same version; '' ends it. The header "
      "Mayfly-Key always does that");
  verb->callback([flags, &context] { context.outcome = traffic(*flags, context); });
}

void add_alias_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("alias", "Show or move the names of a function's versions: NAME@ALIAS");
  auto flags = std::make_shared<AliasFlags>();
  verb->add_option("NAME", flags->name, "the function")->required();
  verb->add_option("ALIAS=VERSION", flags->assignment,
                   "as in stable=3; champion=3 gives it all requests");
  verb->add_option("--expect", flags->expect,
                   "move it only if it is at this version now; none: if there is no such alias");
  verb->add_option("--why", flags->why, "for the history");
  verb->add_flag("--remove", flags->remove, "remove the alias")->excludes("--expect");
  verb->callback([flags, &context] { context.outcome = alias(*flags, context); });
}

void add_rollback_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand(
      "rollback", "Give all requests to the champion, or, where it has them, to the one before it");
  auto name = std::make_shared<std::string>();
  verb->add_option("NAME", *name, "the function")->required();
  verb->callback([name, &context] { context.outcome = roll_back(*name, context); });
}

void add_history_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("history", "Show every change of a function: when, who, what");
  auto name = std::make_shared<std::string>();
  verb->add_option("NAME", *name, "the function, also one that was deleted")->required();
  verb->callback([name, &context] { context.outcome = history(*name, context); });
}

}  // namespace mayfly
