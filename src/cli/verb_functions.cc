// mayfly functions, versions, describe, delete, configure, evict: what there is and how it is set.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/table.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/reason.h"
#include "core/settings.h"

namespace mayfly {
namespace {

std::string tensors_text(const CliJson& specs) {
  std::string text;
  for (const CliJson& spec : specs) {
    text += fmt::format("{}{} {}{}", text.empty() ? "" : ", ", spec.value("name", ""),
                        spec.value("datatype", ""), spec["shape"].dump());
  }
  return text;
}

Status list_functions(const CliContext& context) {
  const CliJson list = TRY(context.node().get("/api/v1/functions"));
  if (context.json) {
    print_json(list);
    return {};
  }
  Table table({"FUNCTION", "VERSION", "STATE", "INSTANCES", "QUEUED", "CREATED"});
  for (const CliJson& item : list["functions"]) {
    table.add({item.value("name", ""), std::to_string(item.value("version", 0)),
               item.value("state", ""), std::to_string(item.value("instances", 0)),
               human_count(item.value("queued", 0ULL)), item.value("created", "")});
  }
  fmt::print("{}", table.empty() ? "no functions; `mayfly deploy NAME MODEL.onnx` makes the first\n"
                                 : table.str());
  return {};
}

Status list_versions(const std::string& name, const CliContext& context) {
  const CliJson list = TRY(context.node().get(function_path(name) + "/versions"));
  if (context.json) {
    print_json(list);
    return {};
  }
  Table table({"VERSION", "CURRENT", "STATE", "ARTIFACT", "DEPLOYED BY", "CREATED"});
  for (const CliJson& item : list["versions"]) {
    table.add({std::to_string(item.value("version", 0)), item.value("current", false) ? "*" : "",
               item.value("state", ""), item.value("artifact", "").substr(0, 12),
               item.value("deployed_by", ""), item.value("created", "")});
  }
  fmt::print("{}", table.str());
  return {};
}

void print_description(const CliJson& about) {
  fmt::print("{}@{}  {}\n", about.value("name", ""), about.value("version", 0),
             about.value("state", ""));
  fmt::print("  inputs   {}\n  outputs  {}\n", tensors_text(about["inputs"]),
             tensors_text(about["outputs"]));
  for (const char* group : {"options", "settings", "measured"}) {
    if (!about.contains(group)) continue;
    fmt::print("{}\n", group);
    for (const auto& [key, value] : about[group].items()) {
      fmt::print("  {:18} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  if (about.contains("processes")) {
    fmt::print("processes\n");
    for (const auto& [key, value] : about["processes"].items())
      fmt::print("  {:18} {}\n", key, value.dump());
  }
  if (about.contains("decisions") && !about["decisions"].empty()) {
    fmt::print("last decisions\n");
    for (const CliJson& decision : about["decisions"]) {
      fmt::print("  {:10} {}\n", human_ago(decision.value("seconds_ago", 0.0)),
                 decision.value("why", ""));
    }
  }
}

Status describe(const std::string& name, const CliContext& context) {
  const ModelRef ref = TRY(parse_model_ref(name));
  std::string path = function_path(ref.function.str());
  if (ref.version) path += fmt::format("/versions/{}", ref.version->value);
  const CliJson about = TRY(context.node().get(path));
  if (context.json) {
    print_json(about);
  } else {
    print_description(about);
  }
  return {};
}

Status remove(const std::string& name, bool yes, const CliContext& context) {
  TRY(FunctionName::parse(name));
  const CliJson done =
      TRY(context.node().send("DELETE", function_path(name) + (yes ? "?force=true" : ""), {}));
  if (context.json) {
    print_json(done);
  } else {
    fmt::print("{} is deleted; `mayfly gc` frees its bytes\n", name);
  }
  return {};
}

Status configure(const std::string& name, const std::vector<std::string>& assignments, bool history,
                 const CliContext& context) {
  TRY(FunctionName::parse(name));
  NodeClient node = context.node();
  const std::string path = function_path(name) + "/settings";
  if (history) {
    const CliJson list = TRY(node.get(path + "/history"));
    if (context.json) {
      print_json(list);
      return {};
    }
    Table table({"WHEN", "WHO", "CHANGE"});
    for (const CliJson& item : list["history"]) {
      table.add({item.value("time", ""), item.value("who", ""),
                 item.value("change", CliJson::object()).dump()});
    }
    fmt::print("{}", table.str());
    return {};
  }
  CliJson settings;
  if (assignments.empty()) {
    settings = TRY(node.get(path));
  } else {
    const std::string changes = TRY(settings_changes_json(assignments));
    settings = TRY(node.send("PATCH", path, CliJson::parse(changes)));
  }
  if (context.json) {
    print_json(settings);
    return {};
  }
  for (const auto& [key, value] : settings.items()) {
    fmt::print("{:18} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return {};
}

Status evict(const std::string& name, const CliContext& context) {
  TRY(parse_model_ref(name));
  const CliJson done =
      TRY(context.node().send("POST", function_path(name) + "/evict", CliJson::object()));
  if (context.json) {
    print_json(done);
  } else if (const auto busy = done.value("busy", 0ULL); busy > 0) {
    fmt::print("{} goes to zero when {} busy instance{} done\n", name, busy,
               busy == 1 ? " is" : "s are");
  } else {
    fmt::print("{} is at zero\n", name);
  }
  return {};
}

}  // namespace

void add_functions_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("functions", "List the functions of the node");
  verb->callback([&context] { context.outcome = list_functions(context); });
}

void add_versions_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("versions", "List the versions of a function");
  auto name = std::make_shared<std::string>();
  verb->add_option("NAME", *name, "the function")->required();
  verb->callback([name, &context] { context.outcome = list_versions(*name, context); });
}

void add_describe_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand(
      "describe", "Show a function: signature, settings, measurements, processes, decisions");
  auto name = std::make_shared<std::string>();
  verb->add_option("NAME", *name, "the function, or NAME@VERSION")->required();
  verb->callback([name, &context] { context.outcome = describe(*name, context); });
}

void add_delete_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("delete", "Delete a function with all its versions");
  auto name = std::make_shared<std::string>();
  auto yes = std::make_shared<bool>(false);
  verb->add_option("NAME", *name, "the function")->required();
  verb->add_flag("--yes", *yes, "also when it was called recently");
  verb->callback([name, yes, &context] { context.outcome = remove(*name, *yes, context); });
}

void add_configure_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("configure", "Show or change a function's settings, without a deploy");
  auto name = std::make_shared<std::string>();
  auto assignments = std::make_shared<std::vector<std::string>>();
  auto history = std::make_shared<bool>(false);
  verb->add_option("NAME", *name, "the function")->required();
  verb->add_option(
      "KEY=VALUE", *assignments,
      "min_instances, max_instances, keep_warm, idle_timeout, template_timeout, queue_limit, "
      "max_concurrency, keep_versions");
  verb->add_flag("--history", *history, "show every change: when, who, what");
  verb->callback(
      [=, &context] { context.outcome = configure(*name, *assignments, *history, context); });
}

void add_evict_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("evict", "End the idle processes of a function now: scale to zero");
  auto name = std::make_shared<std::string>();
  verb->add_option("NAME", *name, "the function, or NAME@VERSION")->required();
  verb->callback([name, &context] { context.outcome = evict(*name, context); });
}

}  // namespace mayfly
