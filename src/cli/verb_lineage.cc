// mayfly lineage, card, register: where a version comes from, what it is worth, and what a training
// found without reaching its goal.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/table.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/printable.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kShownCell = 60;
constexpr std::size_t kLongestPage = std::size_t{64} << 20;

struct LineageFlags {
  std::string name;
  bool data = false;
  Path out;
  std::string reason;
};

std::string cell(const CliJson& json, const char* key) {
  if (!json.is_object() || !json.contains(key) || json[key].is_null()) return "";
  if (json[key].is_number_float()) return fmt::format("{:.4g}", json[key].get<double>());
  return printable(json[key].is_string() ? json[key].get<std::string>() : json[key].dump(),
                   kShownCell);
}

CliJson list_in(const CliJson& json, const char* key) {
  return json.is_object() ? json.value(key, CliJson::array()) : CliJson::array();
}

// "/api/v1/functions/fraud/versions/7"; of a name without a version, the champion's.
Result<std::string> version_path(const std::string& name, const CliContext& context) {
  const ModelRef ref = TRY(parse_model_ref(name));
  std::uint32_t number = ref.version ? ref.version->value : 0;
  if (number == 0) {
    const CliJson about = TRY(context.node().get(function_path(name)));
    number = about.value("version", 0U);
  }
  return fmt::format("{}/versions/{}", function_path(ref.function.str()), number);
}

std::string serves_text(const CliJson& serves) {
  std::string text = fmt::format("{} % of the requests", serves.value("weight", 0));
  if (serves.value("champion", false)) text += ", champion";
  if (serves.value("shadow", 0) > 0)
    text += fmt::format(", shadows {} %", serves.value("shadow", 0));
  return text;
}

void print_erased(const CliJson& data, std::string_view indent) {
  if (!data.contains("erased")) return;
  fmt::print("{}ERASED on {} by {}: {}\n", indent, cell(data["erased"], "time"),
             cell(data["erased"], "by"), cell(data["erased"], "reason"));
}

void print_data_line(const CliJson& data) {
  fmt::print("  data     {}@{}\n", cell(data, "dataset"), cell(data, "snapshot"));
  print_erased(data, "           ");
  for (const CliJson& made : list_in(data, "made_of")) {
    fmt::print("           {} {}, {} rows, {}, by job {}\n", cell(made, "kind"),
               cell(made, "snapshot"), cell(made, "rows"), cell(made, "digest").substr(0, 12),
               cell(made, "job"));
    for (const CliJson& source : list_in(made, "sources"))
      fmt::print("             from {}  {}\n", cell(source, "name"),
                 cell(source, "sha256").substr(0, 12));
  }
}

// Where no keys are asked for, nobody has a name.
std::string by_whom(const std::string& name) { return name.empty() ? "nobody by name" : name; }

void print_lineage(const CliJson& about) {
  if (about.contains("invocation")) {
    const CliJson& invocation = about["invocation"];
    fmt::print("invocation {} at {}, for {}\n", cell(invocation, "id"), cell(invocation, "time"),
               by_whom(cell(invocation, "caller")));
    if (about.contains("gone")) {
      fmt::print("  by {}@{}, which is gone: {}\n", cell(invocation, "function"),
                 cell(invocation, "version"), cell(about, "gone"));
      return;
    }
  }
  fmt::print("{}@{}  {}\n", cell(about, "function"), cell(about, "version"),
             serves_text(about.value("serves", CliJson::object())));
  fmt::print("  made     {} by {}\n", cell(about, "created"), by_whom(cell(about, "deployed_by")));
  const CliJson training = about.value("training", CliJson());
  if (!training.is_object()) {
    fmt::print("  training none is known: it was deployed as it is\n");
    return;
  }
  const CliJson trigger = training.value("trigger", CliJson());
  fmt::print("  because  {}, asked for by {}\n", cell(trigger, "why"),
             by_whom(cell(trigger, "who")));
  if (training.contains("parent")) fmt::print("  after    version {}\n", cell(training, "parent"));
  const CliJson gate = training.value("gate", CliJson::object());
  fmt::print("  gate     {}: {}\n", gate.value("passed", false) ? "passed" : "not passed",
             printable(gate.value("why", ""), 1000));
  for (const CliJson& job : list_in(about, "jobs")) {
    fmt::print("  job      {}  {}\n", cell(job, "id"),
               job.value("kept", false)
                   ? fmt::format("{}, {}", cell(job, "kind"), cell(job, "state"))
                   : "no longer kept");
  }
  for (const CliJson& data : list_in(about, "data")) print_data_line(data);
}

void print_versions_on(const CliJson& versions, std::string_view indent) {
  for (const CliJson& version : versions) {
    fmt::print("{}{}@{}  {}\n", indent, cell(version, "function"), cell(version, "version"),
               serves_text(version.value("serves", CliJson::object())));
  }
}

void print_snapshot_lineage(const CliJson& about) {
  fmt::print("{}@{}  {}\n", cell(about, "dataset"), cell(about, "snapshot"),
             cell(about, "digest").substr(0, 12));
  print_erased(about, "  ");
  if (about.value("versions", CliJson::array()).empty())
    fmt::print("  no version learned from it\n");
  print_versions_on(list_in(about, "versions"), "  ");
  for (const CliJson& later : list_in(about, "contained_in")) {
    fmt::print("  its rows are in {}@{}\n", cell(about, "dataset"), cell(later, "snapshot"));
    print_versions_on(list_in(later, "versions"), "    ");
  }
}

Status show_lineage(const LineageFlags& flags, const CliContext& context) {
  CliJson about;
  if (flags.data) {
    const std::size_t at = flags.name.find('@');
    if (at == std::string::npos)
      return refuse(reason::kBadRequest, "name a snapshot: mayfly lineage --data NAME@3");
    about = TRY(context.node().get(fmt::format("/api/v1/datasets/{}/snapshots/{}/lineage",
                                               path_segment(flags.name.substr(0, at)),
                                               path_segment(flags.name.substr(at + 1)))));
  } else if (flags.name.size() == 36 && flags.name[8] == '-' && flags.name[13] == '-') {
    about = TRY(context.node().get(
        fmt::format("/api/v1/invocations/{}/lineage", path_segment(flags.name))));
  } else {
    const std::string version = TRY(version_path(flags.name, context));
    about = TRY(context.node().get(version + "/lineage"));
  }
  if (context.json) {
    print_json(about);
  } else if (flags.data) {
    print_snapshot_lineage(about);
  } else {
    print_lineage(about);
  }
  return {};
}

void print_card(const CliJson& card) {
  fmt::print("{}@{}\n  {}\n", cell(card, "function"), cell(card, "version"),
             printable(card.value("purpose", ""), 1000));
  const CliJson training = card.value("training", CliJson());
  const CliJson metrics =
      training.is_object() ? training.value("metrics", CliJson::object()) : CliJson::object();
  for (const char* split : {"test", "valid"}) {
    if (!metrics.is_object() || !metrics.contains(split) || !metrics[split].is_object()) continue;
    Table table({"METRIC", "VALUE", "LOW", "HIGH"});
    for (const auto& [name, of] : metrics[split].items())
      table.add(
          {printable(name, kShownCell), cell(of, "value"), cell(of, "low"), cell(of, "high")});
    fmt::print("{} rows\n{}", split, table.str());
  }
  for (const CliJson& limit : list_in(card, "limits"))
    fmt::print("  limit: {}\n", printable(limit.is_string() ? limit.get<std::string>() : "", 1000));
}

Status show_card(const LineageFlags& flags, const CliContext& context) {
  const std::string path = TRY(version_path(flags.name, context)) + "/card";
  if (flags.out.empty()) {
    const CliJson card = TRY(context.node().get(path));
    context.json ? print_json(card) : print_card(card);
    return {};
  }
  std::string page;
  NodeClient node = context.node();
  TRY(node.fetch(path + (context.json ? "?format=json" : "?format=html"),
                 [&](std::string_view piece) -> Status {
                   page += piece;
                   if (page.size() <= kLongestPage) return {};
                   return refuse(reason::kTooLarge, "the card is too long");
                 }));
  TRY(write_file_durably(flags.out, page));
  if (!context.json) fmt::print("the model card is in {}\n", flags.out.native());
  return {};
}

Status register_job(const LineageFlags& flags, const CliContext& context) {
  const WaitingLine waiting("publishing");
  const CliJson made = TRY(
      context.node().send("POST", fmt::format("/api/v1/jobs/{}/register", path_segment(flags.name)),
                          CliJson{{"reason", flags.reason}}));
  if (context.json) {
    print_json(made);
    return {};
  }
  fmt::print("{0}@{1} is registered, without requests; mayfly traffic {0} {1}=100 gives it all\n",
             cell(made, "function"), cell(made, "version"));
  return {};
}

}  // namespace

void add_lineage_verbs(CLI::App& app, CliContext& context) {
  auto flags = std::make_shared<LineageFlags>();
  CLI::App* lineage = app.add_subcommand("lineage", "Show where a version comes from");
  lineage->add_option("NAME", flags->name, "NAME@VERSION, or the id of an invocation")->required();
  lineage->add_flag("--data", flags->data,
                    "NAME@3 is a snapshot: show what learned from it, and what serves that");
  lineage->callback([flags, &context] { context.outcome = show_lineage(*flags, context); });

  CLI::App* card = app.add_subcommand("card", "Show or write the model card of a version");
  card->add_option("NAME", flags->name, "NAME@VERSION, or NAME for its champion")->required();
  card->add_option("--out", flags->out, "write it there: HTML, or JSON with --json");
  card->callback([flags, &context] { context.outcome = show_card(*flags, context); });

  CLI::App* add = app.add_subcommand(
      "register", "Make a version of the best that a training found, without requests");
  add->add_option("JOB", flags->name, "the training's job")->required();
  add->add_option("--reason", flags->reason, "why, for its record")->required();
  add->callback([flags, &context] { context.outcome = register_job(*flags, context); });
}

}  // namespace mayfly
