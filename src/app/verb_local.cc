// mayfly restore, mayfly doctor: what works without a node.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "app/config.h"
#include "app/verbs.h"
#include "cli/table.h"
#include "registry/backup.h"
#include "sandbox/doctor.h"

namespace mayfly {
namespace {

Status restore(const std::string& from, const std::string& to, const CliContext& context) {
  const ConfigValues file = TRY(read_config_files(""));
  const Path data =
      to.empty() ? TRY(make_config({read_config_environment(), file})).data : Path(to);
  const BackupManifest done = TRY(restore_backup(from, data));
  if (context.json) {
    print_json(
        {{"directory", data.native()}, {"files", done.files.size()}, {"bytes", done.size().count}});
  } else {
    fmt::print("restored {} files, {}, into {}\n", done.files.size(),
               human_bytes(done.size().count), data.native());
  }
  return {};
}

Status doctor(const CliContext& context) {
  RealCgroupFs fs;
  const CgroupSupport support = TRY(detect_cgroups(fs));
  const std::vector<LayerHealth> layers = examine_layers(support);
  CliJson list = CliJson::array();
  Table table({"LAYER", "STATE", "SEEN"});
  for (const LayerHealth& layer : layers) {
    list.push_back({{"layer", to_string(layer.layer)},
                    {"state", to_string(layer.state)},
                    {"detail", layer.detail},
                    {"mend", layer.mend}});
    table.add(
        {std::string(to_string(layer.layer)), std::string(to_string(layer.state)), layer.detail});
  }
  if (context.json) {
    print_json(list);
    return {};
  }
  fmt::print("{}", table.str());
  for (const LayerHealth& layer : layers) {
    if (!layer.mend.empty()) fmt::print("mend {}: {}\n", to_string(layer.layer), layer.mend);
  }
  return {};
}

}  // namespace

void add_restore_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("restore", "Bring a backup back into an empty data folder");
  auto from = std::make_shared<std::string>();
  auto to = std::make_shared<std::string>();
  verb->add_option("DIR", *from, "the backup")->required()->check(CLI::ExistingDirectory);
  verb->add_option("--data", *to,
                   "the data folder to fill; default: that of the configuration, as for serve");
  verb->callback([from, to, &context] { context.outcome = restore(*from, *to, context); });
}

void add_doctor_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand(
      "doctor", "Try every layer of the jail on this machine; say how to mend what is missing");
  verb->callback([&context] { context.outcome = doctor(context); });
}

}  // namespace mayfly
