// mayfly deploy NAME PATH: hash, upload what the node lacks, publish, and show what was measured.
#include <fmt/format.h>

#include <toml++/toml.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/deploy_request.h"
#include "cli/folder_watch.h"
#include "cli/local_file.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr const char* kSettingsFile = "mayfly.toml";

struct DeployFlags {
  std::string name;
  std::string path;
  std::string example;
  std::vector<std::string> options;  // key=value
  int percent = 100;                 // of the requests
  std::string rollout;               // empty: none
};

Result<CliJson> toml_json(const toml::node& node) {
  if (const auto* value = node.as_string()) return CliJson(value->get());
  if (const auto* value = node.as_integer()) return CliJson(value->get());
  if (const auto* value = node.as_boolean()) return CliJson(value->get());
  if (const auto* value = node.as_floating_point()) return CliJson(value->get());
  if (const auto* table = node.as_table()) {
    CliJson items = CliJson::object();
    for (const auto& [key, item] : *table) items[std::string(key.str())] = TRY(toml_json(item));
    return items;
  }
  if (const auto* list = node.as_array()) {
    CliJson items = CliJson::array();
    for (const toml::node& item : *list) items.push_back(TRY(toml_json(item)));
    return items;
  }
  return refuse(reason::kInvalidManifest,
                fmt::format("{}:{}: dates and times are not known here; write them as texts",
                            kSettingsFile, node.source().begin.line));
}

// The node knows the keys and refuses the unknown ones; here only the form is read.
Result<CliJson> read_options(const Path& file) {
  const std::string text = TRY(read_file(file));
  CliJson options = CliJson::object();
  try {
    for (const auto& [key, node] : toml::parse(text, file.native())) {
      options[std::string(key.str())] = TRY(toml_json(node));
    }
  } catch (const toml::parse_error& e) {
    return refuse(reason::kInvalidManifest,
                  fmt::format("{}:{}: {}", file.native(), e.source().begin.line, e.description()));
  }
  return options;
}

Result<std::vector<LocalFile>> list_folder(const Path& folder) {
  std::vector<LocalFile> files;
  std::error_code error;
  for (auto entry = std::filesystem::recursive_directory_iterator(folder, error);
       !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code unseen;
    if (entry->is_directory(unseen) && !entry->is_symlink(unseen)) {
      if (is_litter(entry->path().filename().native())) entry.disable_recursion_pending();
      continue;
    }
    const std::string path = entry->path().lexically_relative(folder).generic_string();
    if (path != kSettingsFile) files.push_back(TRY(local_file(entry->path(), path)));
  }
  if (error) return std::unexpected(errno_error(folder.native(), error.value()));
  if (files.empty())
    return refuse(reason::kInvalidManifest,
                  fmt::format("{}: the folder is empty", folder.native()));
  return files;
}

struct Artifact {
  std::vector<LocalFile> files;
  CliJson options = CliJson::object();
};

Result<Artifact> read_artifact(const DeployFlags& flags) {
  Artifact artifact;
  const Path path = flags.path;
  // What cannot be looked at is no folder here, and local_file says why.
  std::error_code unseen;
  if (std::filesystem::is_directory(path, unseen)) {
    artifact.files = TRY(list_folder(path));
    if (std::filesystem::exists(path / kSettingsFile, unseen))
      artifact.options = TRY(read_options(path / kSettingsFile));
  } else {
    artifact.files.push_back(TRY(local_file(path, path.filename().generic_string())));
    artifact.options["model"] = artifact.files.front().path;
  }
  if (!flags.example.empty()) {
    std::erase_if(artifact.files,
                  [](const LocalFile& file) { return file.path == "example.json"; });
    artifact.files.push_back(TRY(local_file(flags.example, "example.json")));
    artifact.options["example"] = "example.json";
  }
  for (const std::string& option : flags.options) {
    const std::size_t equals = option.find('=');
    if (equals == std::string::npos)
      return refuse(reason::kInvalidManifest, fmt::format("'{}': write key=value", option));
    const std::string value = option.substr(equals + 1);
    const CliJson number = CliJson::parse(value, nullptr, false);
    artifact.options[option.substr(0, equals)] =
        number.is_number() || number.is_boolean() || number.is_array() ? number : CliJson(value);
  }
  return artifact;
}

Status deploy(const DeployFlags& flags, const CliContext& context) {
  TRY(FunctionName::parse(flags.name));
  Artifact artifact = TRY(read_artifact(flags));
  CliJson body{{"options", artifact.options}};
  if (flags.rollout.empty()) {
    body["traffic"] = flags.percent;
  } else {
    body["rollout"] = TRY(read_rollout_plan(flags.rollout));
  }
  return send_deploy(
      {.function = flags.name, .files = std::move(artifact.files), .body = std::move(body)},
      context);
}

}  // namespace

Status deploy_path(const std::string& name, const Path& path, const CliContext& context) {
  DeployFlags flags;
  flags.name = name;
  flags.path = path.native();
  return deploy(flags, context);
}

void add_deploy_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("deploy", "Publish a model or code as the next version of a function");
  auto flags = std::make_shared<DeployFlags>();
  verb->add_option("NAME", flags->name, "the function, made if it does not exist")->required();
  verb->add_option("PATH", flags->path,
                   "a model file, or a folder with a model or a Python function and a mayfly.toml")
      ->required();
  verb->add_option("--example", flags->example, "example inputs for the trial run, as for invoke");
  verb->add_option("--set", flags->options,
                   "an option of the version, as in mayfly.toml: threads=2, memory=1GiB, "
                   "timeout=5s, isolation=request");
  CLI::Option* canary = verb->add_option("--canary", flags->percent,
                                         "give the new version this percentage of the requests")
                            ->check(CLI::Range(1, 99));
  CLI::Option* none =
      verb->add_flag_callback(
              "--no-traffic", [flags] { flags->percent = 0; },
              "publish it without requests: it answers as NAME@VERSION (a function's "
              "first version gets them all)")
          ->excludes(canary);
  verb->add_option("--rollout", flags->rollout,
                   "auto, or a JSON file with a plan: it climbs by itself, or goes back")
      ->excludes(canary)
      ->excludes(none);
  verb->callback([flags, &context] { context.outcome = deploy(*flags, context); });
}

}  // namespace mayfly
