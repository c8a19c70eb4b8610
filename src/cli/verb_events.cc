// mayfly events NAME: what was sent with `mayfly invoke --async` and what became of it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/table.h"
#include "cli/verbs.h"
#include "core/names.h"
#include "core/reason.h"

namespace mayfly {
namespace {

struct EventsFlags {
  std::string name;
  std::string action = "list";
  std::string id;
  std::string state;
  std::string before;
  std::uint32_t limit = 100;
};

std::string event_path(const std::string& id) { return "/api/v1/events/" + path_segment(id); }

std::string events_path(const EventsFlags& flags) {
  std::string path = fmt::format("{}/events?limit={}", function_path(flags.name), flags.limit);
  if (!flags.state.empty()) path += "&state=" + path_segment(flags.state);
  if (!flags.before.empty()) path += "&before=" + path_segment(flags.before);
  return path;
}

void print_events(const CliJson& about) {
  std::string counts;
  for (const auto& [state, count] : about["counts"].items()) {
    if (count.get<std::uint64_t>() > 0)
      counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ",
                            human_count(count.get<std::uint64_t>()), state);
  }
  fmt::print("{}: {}\n", about.value("function", ""), counts.empty() ? "no events" : counts);
  if (about["events"].empty()) return;
  Table table({"EVENT", "STATE", "ATTEMPTS", "ACCEPTED", "REASON"});
  for (const CliJson& event : about["events"]) {
    table.add({event.value("id", ""), event.value("state", ""),
               fmt::format("{}/{}", event.value("attempts", 0), event.value("max_attempts", 0)),
               event.value("accepted", ""), event.value("reason", "")});
  }
  fmt::print("\n{}", table.str());
}

void print_event(const CliJson& event) {
  for (const auto& [key, value] : event.items())
    fmt::print("{:16} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
}

// All dead letters of the function, page by page. What is redriven is dead no more, so that each
// first page is another one; what cannot be is passed over.
Result<CliJson> redrive_all(EventsFlags flags, NodeClient& node) {
  flags.state = "dead";
  std::uint64_t redriven = 0;
  std::uint64_t left = 0;
  for (;;) {
    const CliJson page = TRY(node.get(events_path(flags)));
    if (page["events"].empty()) break;
    for (const CliJson& event : page["events"]) {
      flags.before = event.value("id", "");
      const auto done = node.send("POST", event_path(flags.before) + "/redrive", CliJson::object());
      ++(done ? redriven : left);
    }
  }
  return CliJson{{"redriven", redriven}, {"left", left}};
}

Result<std::string> named(const EventsFlags& flags) {
  if (!flags.id.empty()) return flags.id;
  return refuse(reason::kBadRequest,
                fmt::format("name the event: mayfly events {} {} EVENT", flags.name, flags.action));
}

Result<CliJson> act_on_events(EventsFlags flags, NodeClient& node) {
  if (flags.action == "dead") flags.state = "dead";
  if (flags.action == "list" || flags.action == "dead") return node.get(events_path(flags));
  if (flags.action == "redrive" && flags.id.empty()) return redrive_all(std::move(flags), node);
  const std::string path = event_path(TRY(named(flags)));
  if (flags.action == "show") return node.get(path + "/state");
  if (flags.action == "cancel") return node.send("DELETE", path, CliJson());
  return node.send("POST", fmt::format("{}/{}", path, flags.action), CliJson::object());
}

Status events(const EventsFlags& flags, const CliContext& context) {
  TRY(FunctionName::parse(flags.name));
  NodeClient node = context.node();
  const CliJson about = TRY(act_on_events(flags, node));
  if (context.json) {
    print_json(about);
  } else if (about.contains("events")) {
    print_events(about);
  } else {
    print_event(about);
  }
  return {};
}

}  // namespace

void add_events_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand(
      "events", "List, show, cancel or redrive what was sent with invoke --async");
  auto flags = std::make_shared<EventsFlags>();
  verb->add_option("NAME", flags->name, "the function")->required();
  verb->add_option(
          "ACTION", flags->action,
          "list (default), show EVENT, cancel EVENT, dead (list the dead letters), redrive "
          "[EVENT] (without it: all dead letters), redeliver EVENT (tells of its last end once "
          "more)")
      ->check(CLI::IsMember({"list", "show", "cancel", "dead", "redrive", "redeliver"}));
  verb->add_option("EVENT", flags->id, "of show, cancel, redrive and redeliver");
  verb->add_option("--state", flags->state,
                   "of list: waiting, running, done, dead, cancelled or expired");
  verb->add_option("--before", flags->before, "of list: those that are older than this event");
  verb->add_option("--limit", flags->limit, "of list: how many; 100");
  verb->callback([flags, &context] { context.outcome = events(*flags, context); });
}

}  // namespace mayfly
