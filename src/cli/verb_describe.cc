// mayfly describe, configure: one function, for people to read.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/figures.h"
#include "cli/provenance_view.h"
#include "cli/table.h"
#include "cli/traffic_view.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/printable.h"
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

// {"input": "example", "accepted": true} → "input example, accepted true"
std::string value_text(const CliJson& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_object()) return value.dump();
  std::string text;
  for (const auto& [key, inner] : value.items())
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key, value_text(inner));
  return text;
}

// A key of the API carries its unit, a row for people has it behind the number.
void print_row(std::string_view key, const CliJson& value) {
  std::string text;
  if (value.is_number() && key.ends_with("_us")) {
    key.remove_suffix(std::string_view("_us").size());
    text = human_micros(value.get<double>());
  } else if (value.is_number() && key.ends_with("_bytes")) {
    key.remove_suffix(std::string_view("_bytes").size());
    text = human_bytes(value.get<std::uint64_t>());
  } else {
    text = value_text(value);
  }
  if (!text.empty()) fmt::print("  {:18} {}\n", key, text);
}

void print_candidates(const CliJson& candidates) {
  Table table({"FORM", "PREPACKED", "LOAD", "FIRST RUN", "WARM RUN", "PRIVATE", "ARTIFACT"});
  for (const CliJson& item : candidates) {
    const std::string prepacked = item.value("prepacked", false) ? "yes" : "no";
    if (item.contains("skipped")) {
      table.add({item.value("form", ""), prepacked, "", "", "", "", item.value("skipped", "")});
    } else {
      table.add({item.value("form", ""), prepacked, micros_cell(item, "load_us"),
                 micros_cell(item, "first_run_us"), micros_cell(item, "run_us"),
                 bytes_cell(item, "private_bytes"), bytes_cell(item, "artifact_bytes")});
    }
  }
  fmt::print("candidates, the one above was chosen\n{}", table.str());
}

void print_batching(const CliJson& batching) {
  fmt::print("batches of up to {} rows for now", batching.value("max_rows", 1));
  if (const double alone = batching.value("unbatched_us", 0.0); alone > 0)
    fmt::print("; a request alone takes {}", human_micros(alone));
  fmt::print("\n");
  Table table({"ROWS FROM", "BATCHES", "A ROW TAKES"});
  for (const CliJson& size : batching["sizes"]) {
    table.add({std::to_string(size.value("rows", 0)), human_count(size.value("batches", 0ULL)),
               human_micros(size.value("row_us", 0.0))});
  }
  if (!table.empty()) fmt::print("{}", table.str());
}

void print_group(const CliJson& about, const char* group) {
  if (!about.contains(group)) return;
  fmt::print("{}\n", group);
  for (const auto& [key, value] : about[group].items()) {
    if (key != "candidates") print_row(key, value);
  }
}

// "numpy==2.4.6 --hash=sha256:…" a line each, or "# debian: python3-yaml 6.0-3 amd64 sha256:…".
void print_packages(const std::string& lock) {
  fmt::print("packages\n");
  std::istringstream lines(lock);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# ")) line.erase(0, 2);
    fmt::print("  {}\n", line.substr(0, std::min(line.find(" sha256:"), line.find(" --hash="))));
  }
}

// Only what is not as it should be.
void print_integrity(const CliJson& integrity) {
  for (const CliJson& path : integrity.value("missing_files", CliJson::array())) {
    fmt::print("  DAMAGED  {}: its bytes are in quarantine or lost; deploy it again\n",
               path.get<std::string>());
  }
  for (const CliJson& form : integrity.value("quarantined_forms", CliJson::array())) {
    fmt::print("  damaged  a compiled form was put into quarantine, and is made again: {}\n",
               form.get<std::string>());
  }
}

std::string_view start_text(std::string_view tier) {
  if (tier == "hot") return "hot: an instance is idle";
  if (tier == "template") return "a fork of its template";
  if (tier == "environment") return "a start with its packages imported already (environment)";
  return "cold";
}

// Names are anybody's words.
void print_training(const CliJson& training) {
  const auto word = [](const CliJson& json, const char* key) {
    const CliJson found = json.is_object() ? json.value(key, CliJson()) : CliJson();
    if (found.is_null()) return std::string();
    if (found.is_number_float()) return fmt::format("{:.4g}", found.get<double>());
    return printable(found.is_string() ? found.get<std::string>() : found.dump(), 200);
  };
  fmt::print("training\n");
  for (const char* key : {"job", "trainer", "task", "target", "outcome", "looks", "parent"})
    if (const std::string value = word(training, key); !value.empty()) print_row(key, value);
  const CliJson metrics = training.value("metrics", CliJson::object());
  for (const char* split : {"valid", "test"}) {
    if (!metrics.is_object() || !metrics.contains(split)) continue;
    const CliJson& of = metrics[split];
    print_row(split, fmt::format("{} {} ({} to {})", word(training, "metric"), word(of, "value"),
                                 word(of, "low"), word(of, "high")));
  }
  const CliJson gate = training.value("gate", CliJson::object());
  print_row("gate", fmt::format("{}: {}", word(gate, "passed") == "true" ? "passed" : "not passed",
                                word(gate, "why")));
  for (const CliJson& data : training.value("data", CliJson::array())) {
    std::string text = fmt::format("{}@{}", word(data, "dataset"), word(data, "snapshot"));
    if (data.contains("erased")) {
      const CliJson& erased = data["erased"];
      text += fmt::format(", ERASED on {} by {}: {}", word(erased, "time"), word(erased, "by"),
                          word(erased, "reason"));
    }
    print_row("data", text);
  }
}

void print_description(const CliJson& about) {
  fmt::print("{}@{}  {}\n", about.value("name", ""), about.value("version", 0),
             about.value("state", ""));
  fmt::print("  inputs   {}\n  outputs  {}\n", tensors_text(about["inputs"]),
             tensors_text(about["outputs"]));
  fmt::print("  next     the next call will be {}\n", start_text(about.value("next_start", "")));
  if (about.value("streams", false)) fmt::print("  replies  streams of such outputs\n");
  if (about.contains("provenance")) print_row("signed", provenance_text(about["provenance"]));
  if (about.contains("integrity")) print_integrity(about["integrity"]);
  if (about.contains("training")) print_training(about["training"]);
  print_group(about, "options");
  if (about.contains("environment")) print_packages(about["environment"].value("lock", ""));
  for (const char* group : {"settings", "measured"}) print_group(about, group);
  if (about.contains("measured") && about["measured"].contains("candidates"))
    print_candidates(about["measured"]["candidates"]);
  if (about.contains("traffic")) {
    fmt::print("traffic\n");
    print_traffic(about["traffic"]);
  }
  if (about.contains("rollout") && about["rollout"].value("state", "") == "running") {
    fmt::print("rollout\n");
    print_running_rollout(about["rollout"]);
  }
  print_group(about, "processes");
  if (about.contains("batching")) print_batching(about["batching"]);
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

Status configure(const std::string& name, const std::vector<std::string>& assignments,
                 const CliContext& context) {
  TRY(FunctionName::parse(name));
  NodeClient node = context.node();
  const std::string path = function_path(name) + "/settings";
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
  for (const auto& [key, value] : settings.items())
    fmt::print("{:18} {}\n", key, value_text(value));
  return {};
}

}  // namespace

void add_describe_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand(
      "describe", "Show a function: signature, settings, measurements, processes, decisions");
  auto name = std::make_shared<std::string>();
  verb->add_option("NAME", *name, "the function, or NAME@VERSION")->required();
  verb->callback([name, &context] { context.outcome = describe(*name, context); });
}

void add_configure_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("configure", "Show or change a function's settings, without a deploy");
  auto name = std::make_shared<std::string>();
  auto assignments = std::make_shared<std::vector<std::string>>();
  verb->add_option("NAME", *name, "the function")->required();
  verb->add_option(
      "KEY=VALUE", *assignments,
      "min_instances, max_instances, keep_warm, idle_timeout, template_timeout, queue_limit, "
      "max_concurrency, keep_versions");
  verb->callback([=, &context] { context.outcome = configure(*name, *assignments, context); });
}

}  // namespace mayfly
