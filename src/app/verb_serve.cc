// mayfly serve: reads the configuration from flags, environment and file, and runs the node.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "app/config.h"
#include "app/node.h"
#include "app/verbs.h"

namespace mayfly {
namespace {

struct ServeFlags {
  std::string config_file;
  ConfigValues values;
  bool print = false;
};

Status serve(const ServeFlags& flags, const WrapEventStores& wrap) {
  const ConfigValues file = TRY(read_config_files(flags.config_file));
  const Config config = TRY(make_config({flags.values, read_config_environment(), file}));
  return run_node(config, wrap);
}

}  // namespace

void add_serve_verb(CLI::App& app, CliContext& context, WrapEventStores wrap) {
  CLI::App* verb = app.add_subcommand("serve", "Run the node in the foreground");
  auto flags = std::make_shared<ServeFlags>();
  verb->add_option("--config", flags->config_file,
                   "a TOML file; else MAYFLY_CONFIG, else the default places");
  for (const ConfigKey& key : config_keys()) {
    verb->add_option_function<std::string>(
        std::string(key.flag),
        [flags, key](const std::string& value) { flags->values[std::string(key.key)] = value; },
        fmt::format("{}{} [{}, {}]", key.help,
                    key.fallback.empty() ? "" : fmt::format("; default {}", key.fallback),
                    key.environment, key.key));
  }
  verb->footer(
      "A flag wins over its environment variable, that over the file, that over the default.");
  verb->callback(
      [flags, wrap = std::move(wrap), &context] { context.outcome = serve(*flags, wrap); });
}

}  // namespace mayfly
