// mayfly help [VERB]: what --help prints, for those who try the word first.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "cli/verbs.h"

namespace mayfly {
namespace {

Status help(const CLI::App& root, const std::string& name) {
  if (name.empty()) {
    // Not root.help(), which explains the verb that was named: this one.
    fmt::print("{}",
               root.get_formatter()->make_help(&root, root.get_name(), CLI::AppFormatMode::Normal));
    return {};
  }
  const auto found =
      root.get_subcommands([&](const CLI::App* verb) { return verb->get_name() == name; });
  if (found.empty()) return std::unexpected(unknown_verb(name));
  fmt::print("{}", found.front()->help(root.get_name()));
  return {};
}

}  // namespace

Error unknown_verb(std::string_view word) {
  return {.code = Code::InvalidArgument,
          .message = fmt::format("unknown verb '{}'; mayfly help lists them", word)};
}

void add_help_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("help", "List the verbs, or explain one");
  auto name = std::make_shared<std::string>();
  verb->add_option("VERB", *name, "the verb to explain");
  verb->callback([name, &app, &context] { context.outcome = help(app, *name); });
}

}  // namespace mayfly
