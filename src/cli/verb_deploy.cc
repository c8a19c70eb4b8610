// mayfly deploy NAME PATH: hash, upload what the node lacks, publish, and show what was measured.
#include <fmt/format.h>

#include <toml++/toml.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/figures.h"
#include "cli/folder_watch.h"
#include "cli/local_file.h"
#include "cli/table.h"
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

void print_published(const CliJson& result) {
  const std::string function = result.value("function", "");
  const int version = result.value("version", 0);
  const int percent = result.value("traffic", 100);
  if (result.value("rollout", false)) {
    fmt::print("{0}@{1} is being rolled out; mayfly rollout {0} shows how it fares\n", function,
               version);
  } else if (percent == 100) {
    fmt::print("{}@{} is serving\n", function, version);
  } else if (percent > 0) {
    fmt::print("{}@{} is serving {} % of the requests\n", function, version, percent);
  } else {
    fmt::print("{0}@{1} gets no requests but its own; mayfly traffic {0} {1}=100 gives it all\n",
               function, version);
  }
  const CliJson measured = result.value("measured", CliJson::object());
  Table table({"form", "load", "warm run", "private", "artifact"});
  table.add({measured.value("form", "?"), micros_cell(measured, "load_us"),
             micros_cell(measured, "run_us"), bytes_cell(measured, "private_bytes"),
             bytes_cell(measured, "artifact_bytes")});
  fmt::print("{}", table.str());
  for (const auto& [key, notes] : result.items()) {
    if (key != "notes") continue;
    for (const CliJson& note : notes) fmt::print("note: {}\n", note.get<std::string>());
  }
}

Status deploy(const DeployFlags& flags, const CliContext& context) {
  TRY(FunctionName::parse(flags.name));
  Artifact artifact = TRY(read_artifact(flags));
  CliJson plan;
  if (!flags.rollout.empty()) plan = TRY(read_rollout_plan(flags.rollout));
  NodeClient node = context.node();
  ProgressLine progress;
  CliJson files = CliJson::array();
  for (LocalFile& file : artifact.files) {
    file.sha256 = TRY(digest_of(file, progress));
    TRY(upload_blob(node, file, progress));
    files.push_back({{"path", file.path}, {"sha256", file.sha256}, {"size", file.size}});
  }

  CliJson result;
  CliJson request{{"files", files}, {"options", artifact.options}};
  if (flags.rollout.empty()) {
    request["traffic"] = flags.percent;
  } else {
    request["rollout"] = plan;
  }
  TRY(node.stream("POST", fmt::format("/api/v1/functions/{}/versions", flags.name), request,
                  [&](const CliJson& line) {
                    if (line.contains("step"))
                      progress.show(fmt::format("publishing: {}", line.value("step", "")));
                    if (line.contains("result")) result = line["result"];
                  }));
  progress.clear();
  if (result.is_null())
    return fail(Code::Unavailable, "the node ended the deploy without a result; see its log");
  if (context.json) {
    print_json(result);
  } else {
    print_published(result);
  }
  return {};
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
