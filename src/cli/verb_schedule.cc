// mayfly schedule: what is sent to a function when, as events or as jobs.
#include <fmt/format.h>
#include <openssl/evp.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/file.h"
#include "cli/batch_request.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMostRead = std::size_t{4} << 20U;  // what a control request may hold
constexpr std::string_view kSchedules = "/api/v1/schedules";

struct ScheduleFlags {
  std::string name;
  std::string function;
  std::string cron;
  std::string timezone = "UTC";
  std::string data;
  Path file;
  std::string content_type;
  std::string missed = "one";
  std::string overlap = "skip";
  BatchOptions batch;  // without input: none
  bool run = false;
  bool paused = false;
};

std::string schedule_path(const ScheduleFlags& flags) {
  return fmt::format("{}/{}", kSchedules, path_segment(flags.name));
}

std::string base64_of(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // with a final null
  const int size = ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                     reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

// JSON as it is, anything else as bytes.
Status add_payload(const ScheduleFlags& flags, CliJson& body) {
  if (!flags.content_type.empty()) body["content_type"] = flags.content_type;
  if (flags.data.empty() && flags.file.empty()) return {};
  if (!flags.data.empty() && !flags.file.empty())
    return refuse(reason::kBadRequest, "name either -d or -f");
  const std::string text = flags.file.empty() ? flags.data : TRY(read_file(flags.file, kMostRead));
  const bool is_json = flags.content_type.empty() || flags.content_type == "application/json";
  if (!is_json) {
    body["payload_base64"] = base64_of(text);
    return {};
  }
  CliJson json = CliJson::parse(text, nullptr, false);
  if (json.is_discarded()) {
    return refuse(reason::kBadRequest,
                  "the payload is no JSON; say what it is with --content-type, as image/png");
  }
  body["payload"] = std::move(json);
  return {};
}

// A payload, or a job.
Status add_work(const ScheduleFlags& flags, NodeClient& node, CliJson& body) {
  if (flags.batch.input.empty() && !flags.run) return add_payload(flags, body);
  if (flags.run && !flags.batch.input.empty())
    return refuse(reason::kBadRequest, "name either --run or --input, of a batch");
  if (!flags.content_type.empty())
    return refuse(reason::kBadRequest, "a job has no payload, and so no --content-type");
  if (flags.run) {
    TRY(add_payload(flags, body));
    body["job"] = {{"kind", "run"}, {"inputs", body.value("payload", CliJson::object())}};
    body.erase("payload");
    return {};
  }
  if (!flags.data.empty() || !flags.file.empty())
    return refuse(reason::kBadRequest, "a batch's rows come from --input; it has no -d and no -f");
  body["job"] = TRY(batch_request(node, flags.batch, ""));
  return {};
}

void print_runs(const CliJson& runs) {
  Table table({"PLANNED", "OUTCOME", "EVENT OR JOB", "STATE", "REASON"});
  for (const CliJson& run : runs) {
    table.add({run.value("planned", ""), run.value("outcome", ""),
               run.value("job", run.value("event", "-")), run.value("state", "-"),
               run.value("reason", "")});
  }
  fmt::print("\n{}", table.str());
}

void print_schedule(const CliJson& schedule) {
  for (const auto& [key, value] : schedule.items()) {
    if (key == "last" || key == "runs") continue;
    fmt::print("{:16} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  const CliJson runs = schedule.value("runs", CliJson::array());
  if (!runs.empty()) return print_runs(runs);
  if (!schedule.contains("last")) return;
  for (const auto& [key, value] : schedule["last"].items())
    fmt::print("{:16} {}\n", "last " + key, value.get<std::string>());
}

std::string last_cell(const CliJson& schedule) {
  if (!schedule.contains("last")) return "-";
  const CliJson& last = schedule["last"];
  return fmt::format("{} {}", last.value("at", ""), last.value("outcome", ""));
}

Status show_or_print(const CliJson& about, const CliContext& context) {
  if (context.json) {
    print_json(about);
  } else {
    print_schedule(about);
  }
  return {};
}

Status create_schedule(const ScheduleFlags& flags, const CliContext& context) {
  CliJson body{{"name", flags.name},     {"function", flags.function},
               {"cron", flags.cron},     {"timezone", flags.timezone},
               {"missed", flags.missed}, {"overlap", flags.overlap},
               {"paused", flags.paused}};
  NodeClient node = context.node();
  TRY(add_work(flags, node, body));
  return show_or_print(TRY(node.send("POST", std::string(kSchedules), body)), context);
}

Status list_schedules(const CliContext& context) {
  NodeClient node = context.node();
  const CliJson list = TRY(node.get(std::string(kSchedules)));
  if (context.json) {
    print_json(list);
    return {};
  }
  Table table({"NAME", "FUNCTION", "CRON", "TIMEZONE", "NEXT", "LAST"});
  for (const CliJson& schedule : list["schedules"]) {
    const std::string function =
        schedule.value("function", "") + (schedule.value("function_exists", true) ? "" : " (gone)");
    table.add({schedule.value("name", ""), function, schedule.value("cron", ""),
               schedule.value("timezone", ""), schedule.value("next", "paused"),
               last_cell(schedule)});
  }
  fmt::print("{}", table.str());
  return {};
}

Status show_schedule(const ScheduleFlags& flags, const CliContext& context) {
  NodeClient node = context.node();
  return show_or_print(TRY(node.get(schedule_path(flags))), context);
}

Status move_schedule(const ScheduleFlags& flags, std::string_view action,
                     const CliContext& context) {
  NodeClient node = context.node();
  const CliJson about =
      TRY(node.send("POST", fmt::format("{}/{}", schedule_path(flags), action), CliJson::object()));
  if (action != "run" || context.json) return show_or_print(about, context);
  fmt::print("{}\n", about.value("id", ""));
  return {};
}

Status delete_schedule(const ScheduleFlags& flags, const CliContext& context) {
  NodeClient node = context.node();
  const CliJson done = TRY(node.send("DELETE", schedule_path(flags), CliJson()));
  if (context.json) {
    print_json(done);
  } else {
    fmt::print("{} is deleted\n", flags.name);
  }
  return {};
}

void add_schedule_create(CLI::App& verb, const std::shared_ptr<ScheduleFlags>& flags,
                         CliContext& context) {
  CLI::App* create = verb.add_subcommand(
      "create", "Send a payload to a function again and again, or run a batch or a job of it");
  create->add_option("NAME", flags->name, "of the schedule")->required();
  create->add_option("FUNCTION", flags->function, "as for invoke: NAME, NAME@VERSION, NAME@ALIAS")
      ->required();
  create->add_option("--cron", flags->cron, "when: '0 2 * * *', '*/5 8-18 * * MON-FRI', @daily")
      ->required();
  create->add_option("--timezone", flags->timezone, "whose clock it is, as Europe/Berlin; UTC");
  create->add_option("-d,--data", flags->data, "the payload, as JSON; {}");
  create->add_option("-f,--file", flags->file, "the payload is in this file");
  create->add_option("--content-type", flags->content_type, "of the payload; application/json");
  create
      ->add_option("--missed", flags->missed,
                   "what becomes of runs that were missed while the node was down: one (a single "
                   "run for all of them; the default) or skip")
      ->check(CLI::IsMember({"one", "skip"}));
  create
      ->add_option("--overlap", flags->overlap,
                   "what becomes of a run that is due while the one before has not ended: skip (it "
                   "is passed over; the default) or allow")
      ->check(CLI::IsMember({"skip", "allow"}));
  create->add_flag("--run", flags->run, "each time a job of its run(inputs, ctx); -d: its inputs");
  add_batch_options(*create, flags->batch)
      ->description("each time a batch over this .csv, .jsonl or .parquet file, uploaded now");
  create->add_flag("--paused", flags->paused, "until it is resumed");
  create->callback([flags, &context] { context.outcome = create_schedule(*flags, context); });
}

}  // namespace

void add_schedule_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("schedule", "Run a function at set times: create, list, show, pause …");
  verb->require_subcommand(1);
  auto flags = std::make_shared<ScheduleFlags>();
  add_schedule_create(*verb, flags, context);
  verb->add_subcommand("list", "All of the project, with their next and last runs")
      ->callback([&context] { context.outcome = list_schedules(context); });
  const auto add = [&](const char* action, const char* what, auto act) {
    CLI::App* sub = verb->add_subcommand(action, what);
    if (std::string_view(action) == "show") sub->alias("describe");
    sub->add_option("NAME", flags->name, "of the schedule")->required();
    sub->callback(
        [flags, action, act, &context] { context.outcome = act(*flags, action, context); });
  };
  const auto show = [](const ScheduleFlags& of, std::string_view, const CliContext& in) {
    return show_schedule(of, in);
  };
  const auto remove = [](const ScheduleFlags& of, std::string_view, const CliContext& in) {
    return delete_schedule(of, in);
  };
  add("show", "One of them, and what became of its last runs", show);
  add("pause", "No more runs until it is resumed", move_schedule);
  add("resume", "Go on; what was planned meanwhile is not made up for", move_schedule);
  add("run", "Run it now, out of turn; prints the event's or the job's id", move_schedule);
  add("delete", "Forget it; its events and jobs go on", remove);
}

}  // namespace mayfly
