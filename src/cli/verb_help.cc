// mayfly help [VERB…]: what --help prints, for those who try the word first.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "cli/table.h"
#include "cli/verbs.h"
#include "validation/metric.h"

namespace mayfly {
namespace {

// What models are judged by, and which way is better.
void print_metrics() {
  Table table({"METRIC", "BETTER", "OF", "MEANING"});
  for (const validation::MetricInfo& one : validation::catalogue()) {
    std::string tasks;
    for (const auto task : {validation::Task::Binary, validation::Task::Multiclass,
                            validation::Task::Regression, validation::Task::Recommendation}) {
      if (validation::fits(one.metric, task))
        tasks += fmt::format("{}{}", tasks.empty() ? "" : ", ", validation::to_string(task));
    }
    table.add({std::string(one.name), one.higher_is_better ? "higher" : "lower", tasks,
               std::string(one.meaning)});
  }
  table.add({"ndcg", "higher", "ranking", "gain of the first 10, against the best order"});
  table.add({"inertia", "lower", "clustering", "mean squared distance to the nearest centroid"});
  fmt::print("{}", table.str());
}

Status help(const CLI::App& root, const std::vector<std::string>& words) {
  if (words.empty()) {
    // Not root.help(), which explains the verb that was named: this one.
    fmt::print("{}",
               root.get_formatter()->make_help(&root, root.get_name(), CLI::AppFormatMode::Normal));
    return {};
  }
  if (words.front() == "metrics") {
    print_metrics();
    return {};
  }
  const CLI::App* at = &root;
  std::string above = root.get_name();
  for (const std::string& word : words) {
    if (at != &root) above += " " + at->get_name();
    const auto found =
        at->get_subcommands([&](const CLI::App* verb) { return verb->get_name() == word; });
    if (found.empty()) return std::unexpected(unknown_verb(word));
    at = found.front();
  }
  fmt::print("{}", at->help(above));
  return {};
}

}  // namespace

Error unknown_verb(std::string_view word) {
  return {.code = Code::InvalidArgument,
          .message = fmt::format("unknown verb '{}'; mayfly help lists them", word)};
}

void add_help_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("help", "List the verbs, or explain one");
  auto words = std::make_shared<std::vector<std::string>>();
  verb->add_option("VERB", *words,
                   "the verb to explain, as in data put; metrics: what models are judged by");
  verb->callback([words, &app, &context] { context.outcome = help(app, *words); });
}

}  // namespace mayfly
