// mayfly key, project, audit: who may ask a node, how much, and who did what to it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/table.h"
#include "cli/verbs.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::string_view kKeys = "/api/v1/keys";

struct KeyFlags {
  std::string scopes;
  std::string name;
  std::string project;
  std::string expires;
  std::string id;
  Path data;
};

std::string text_or(const CliJson& json, const char* key, std::string_view otherwise) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>()
                                                   : std::string(otherwise);
}

Status create_key(const KeyFlags& flags, const CliContext& context) {
  CliJson body{{"scopes", flags.scopes}};
  if (!flags.name.empty()) body["name"] = flags.name;
  if (!flags.project.empty()) body["project"] = flags.project;
  if (!flags.expires.empty()) body["expires"] = flags.expires;
  const CliJson made = TRY(context.admin_node(flags.data).send("POST", std::string(kKeys), body));
  if (context.json) {
    print_json(made);
    return {};
  }
  fmt::print("{}\n", made.value("key", ""));
  fmt::print(
      stderr,
      "key {} of the project {} for {}, {}\nIt is shown this once: keep it, and send it as "
      "MAYFLY_KEY or as \"Authorization: Bearer …\".\n",
      made.value("id", ""), made.value("project", ""), made.value("scopes", ""),
      made["expires"].is_null() ? "without an end" : "until " + text_or(made, "expires", ""));
  return {};
}

std::string state_of_key(const CliJson& key) {
  if (const std::string at = text_or(key, "revoked", ""); !at.empty()) return "revoked " + at;
  return text_or(key, "expires", "never");
}

Status list_keys(const KeyFlags& flags, const CliContext& context) {
  const CliJson list = TRY(context.admin_node(flags.data).get(std::string(kKeys)));
  if (context.json) {
    print_json(list);
    return {};
  }
  Table table({"ID", "NAME", "PROJECT", "SCOPES", "ENDS", "LAST USED", "BY"});
  for (const CliJson& key : list["keys"]) {
    table.add({key.value("id", ""), key.value("name", ""), key.value("project", ""),
               key.value("scopes", ""), state_of_key(key), text_or(key, "last_used", "never"),
               key.value("created_by", "")});
  }
  fmt::print("{}", table.str());
  return {};
}

Status revoke_key(const KeyFlags& flags, const CliContext& context) {
  if (flags.id.empty()) return refuse(reason::kInvalidSetting, "the key's id is empty");
  const CliJson done =
      TRY(context.admin_node(flags.data)
              .send("DELETE", fmt::format("{}/{}", kKeys, path_segment(flags.id)), CliJson()));
  if (context.json) {
    print_json(done);
  } else {
    fmt::print("{} is revoked\n", flags.id);
  }
  return {};
}

struct ProjectFlags {
  std::string name;
  std::vector<std::string> quotas;
  Path data;
};

void print_projects(const CliJson& projects) {
  Table table({"PROJECT", "REQUESTS/S", "CONCURRENCY", "GB-SECONDS A MONTH", "MEMORY", "STORED",
               "JOBS", "DATA"});
  for (const CliJson& project : projects) {
    const CliJson quotas = project.value("quotas", CliJson::object());
    const auto number = [&](const char* key) { return std::to_string(quotas.value(key, 0ULL)); };
    table.add({project.value("name", ""), number("requests_per_second"), number("concurrency"),
               number("gb_seconds_per_month"), quotas.value("memory", ""),
               quotas.value("stored_bytes", ""), quotas.value("job_bytes", ""),
               quotas.value("data_bytes", "")});
  }
  fmt::print("{}", table.str());
}

Status create_project(const ProjectFlags& flags, const CliContext& context) {
  const CliJson made =
      TRY(context.admin_node(flags.data).send("POST", "/api/v1/projects", {{"name", flags.name}}));
  if (context.json) {
    print_json(made);
  } else {
    fmt::print("{} is there\n", flags.name);
  }
  return {};
}

Status list_projects(const ProjectFlags& flags, const CliContext& context) {
  const CliJson list = TRY(context.admin_node(flags.data).get("/api/v1/projects"));
  if (context.json) {
    print_json(list);
  } else {
    print_projects(list["projects"]);
  }
  return {};
}

// "concurrency=8", "memory=2GiB"; a plain number of bytes is a size as well.
Result<std::pair<std::string, CliJson>> parse_quota(const std::string& text) {
  const std::size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : text.substr(equals + 1);
  const CliJson number = CliJson::parse(value, nullptr, false);
  const bool size = name == "memory" || name.ends_with("_bytes");
  if (size && !value.empty())
    return std::pair(name, CliJson(number.is_number() ? value + "B" : value));
  if (number.is_number_unsigned()) return std::pair(name, number);
  return refuse(reason::kInvalidSetting,
                fmt::format("'{}': write QUOTA=NUMBER, as in concurrency=8 or memory=2GiB", text));
}

Status set_quotas(const ProjectFlags& flags, const CliContext& context) {
  CliJson changes = CliJson::object();
  for (const std::string& text : flags.quotas) {
    const auto [name, value] = TRY(parse_quota(text));
    changes[name] = value;
  }
  const CliJson now =
      TRY(context.admin_node(flags.data)
              .send("PATCH", fmt::format("/api/v1/projects/{}/quotas", path_segment(flags.name)),
                    changes));
  if (context.json) {
    print_json(now);
  } else {
    print_projects(CliJson::array({now}));
  }
  return {};
}

struct AuditFlags {
  std::string since;
  std::string who;
  std::string subject;
  std::string action;
  std::string project;
  std::uint32_t limit = 100;
  Path data;
};

Status show_audit(const AuditFlags& flags, const CliContext& context) {
  const CliJson list =
      TRY(context.admin_node(flags.data)
              .get(fmt::format(
                  "/api/v1/audit?since={}&who={}&subject={}&action={}&project={}&limit={}",
                  path_segment(flags.since), path_segment(flags.who), path_segment(flags.subject),
                  path_segment(flags.action), path_segment(flags.project), flags.limit)));
  if (context.json) {
    print_json(list);
    return {};
  }
  Table table({"WHEN", "WHO", "FROM", "PROJECT", "ACTION", "SUBJECT", "OUTCOME"});
  for (const CliJson& entry : list["entries"]) {
    table.add({entry.value("time", ""), entry.value("who", ""), entry.value("from", ""),
               entry.value("project", ""), entry.value("action", ""), entry.value("subject", ""),
               entry.value("outcome", "")});
  }
  fmt::print("{}", table.str());
  return {};
}

void add_data_option(CLI::App& verb, Path& data) {
  verb.add_option(
      "--data", data,
      "the node's data folder, whose admin socket is asked while neither a key nor --url "
      "is given; else, without MAYFLY_URL too, the configuration's");
}

}  // namespace

void add_key_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("key", "Make, list and revoke the keys that a node asks for");
  verb->require_subcommand(1);
  auto flags = std::make_shared<KeyFlags>();

  CLI::App* create = verb->add_subcommand("create", "Make a key; it is shown once");
  create
      ->add_option("--scope", flags->scopes,
                   "what it may do: VERB:PATTERN,… as in invoke:fraud,deploy:*; the verbs are "
                   "invoke, read, deploy, configure, data, secrets, metrics, admin")
      ->required();
  create->add_option("--name", flags->name, "for people: what the key is for");
  create->add_option("--project", flags->project, "whose functions it means; default: one's own");
  create->add_option("--expires", flags->expires, "90d, 12h, or a time; default: never");
  add_data_option(*create, flags->data);
  create->callback([flags, &context] { context.outcome = create_key(*flags, context); });

  CLI::App* list = verb->add_subcommand("list", "List keys, without their secrets");
  add_data_option(*list, flags->data);
  list->callback([flags, &context] { context.outcome = list_keys(*flags, context); });

  CLI::App* revoke = verb->add_subcommand("revoke", "End a key at once");
  revoke->add_option("ID", flags->id, "as key list shows it")->required();
  add_data_option(*revoke, flags->data);
  revoke->callback([flags, &context] { context.outcome = revoke_key(*flags, context); });
}

void add_project_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("project", "Make and list projects, and say what each may take");
  verb->require_subcommand(1);
  auto flags = std::make_shared<ProjectFlags>();

  CLI::App* create = verb->add_subcommand("create", "Make a project; keys with --project name it");
  create->add_option("PROJECT", flags->name, "its name, spelled like a function's")->required();
  add_data_option(*create, flags->data);
  create->callback([flags, &context] { context.outcome = create_project(*flags, context); });

  CLI::App* list = verb->add_subcommand("list", "List projects and their quotas; 0 is no limit");
  add_data_option(*list, flags->data);
  list->callback([flags, &context] { context.outcome = list_projects(*flags, context); });

  CLI::App* quota = verb->add_subcommand("quota", "Change what a project may take; 0 is no limit");
  quota->add_option("PROJECT", flags->name, "the project")->required();
  quota
      ->add_option("QUOTA=NUMBER", flags->quotas,
                   "requests_per_second, concurrency, gb_seconds_per_month, memory, stored_bytes, "
                   "job_bytes, data_bytes")
      ->required();
  add_data_option(*quota, flags->data);
  quota->callback([flags, &context] { context.outcome = set_quotas(*flags, context); });
}

void add_audit_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("audit", "Show who did what to the node, and how it ended");
  auto flags = std::make_shared<AuditFlags>();
  verb->add_option("--since", flags->since, "24h ago, or a time");
  verb->add_option("--who", flags->who, "by one key, as audit shows it");
  verb->add_option("--subject", flags->subject, "of one function or key");
  verb->add_option("--action", flags->action, "as in deploy, key.create");
  verb->add_option("--project", flags->project, "of one project");
  verb->add_option("--limit", flags->limit, "that many at most, the newest first; default 100");
  add_data_option(*verb, flags->data);
  verb->callback([flags, &context] { context.outcome = show_audit(*flags, context); });
}

}  // namespace mayfly
