// mayfly functions, versions, delete, evict: what there is.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/provenance_view.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "core/names.h"

namespace mayfly {
namespace {

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
  Table table({"VERSION", "REQUESTS", "SHADOW", "ALIASES", "STATE", "ARTIFACT", "SIGNED",
               "DEPLOYED BY", "CREATED"});
  for (const CliJson& item : list["versions"]) {
    const auto percent = [&](const char* key) {
      const int share = item.value(key, 0);
      return share == 0 ? std::string() : fmt::format("{} %", share);
    };
    std::string aliases;
    for (const CliJson& alias : item.value("aliases", CliJson::array()))
      aliases += (aliases.empty() ? "" : ", ") + alias.get<std::string>();
    table.add({std::to_string(item.value("version", 0)), percent("weight"), percent("shadow"),
               aliases, item.value("state", ""), item.value("artifact", "").substr(0, 12),
               provenance_cell(item.value("provenance", CliJson::object())),
               item.value("deployed_by", ""), item.value("created", "")});
  }
  fmt::print("{}", table.str());
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

void add_delete_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("delete", "Delete a function with all its versions");
  auto name = std::make_shared<std::string>();
  auto yes = std::make_shared<bool>(false);
  verb->add_option("NAME", *name, "the function")->required();
  verb->add_flag("--yes", *yes, "also when it was called recently, or functions call it");
  verb->callback([name, yes, &context] { context.outcome = remove(*name, *yes, context); });
}

void add_evict_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("evict", "End the idle processes of a function now: scale to zero");
  auto name = std::make_shared<std::string>();
  verb->add_option("NAME", *name, "the function, or NAME@VERSION")->required();
  verb->callback([name, &context] { context.outcome = evict(*name, context); });
}

}  // namespace mayfly
