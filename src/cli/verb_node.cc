// mayfly status, top, usage, logs, gc, backup: the node itself.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/table.h"
#include "cli/verbs.h"
#include "core/names.h"

namespace mayfly {
namespace {

Status status(const CliContext& context) {
  NodeClient node = context.node();
  const CliJson about = TRY(node.get("/api/v1/status"));
  if (context.json) {
    print_json(about);
    return {};
  }
  fmt::print("{} at {}, up {}\n", about.value("ready", false) ? "ready" : "not ready", node.url(),
             human_micros(about.value("uptime_s", 0.0) * 1e6));
  Table table({"FUNCTIONS", "INSTANCES", "TEMPLATES", "QUEUED", "MEMORY", "OF", "ISOLATION"});
  table.add({human_count(about.value("function_count", 0ULL)),
             human_count(about.value("instances", 0ULL)),
             human_count(about.value("templates", 0ULL)), human_count(about.value("queued", 0ULL)),
             human_bytes(about.value("memory_bytes", 0ULL)),
             human_bytes(about.value("memory_budget_bytes", 0ULL)), about.value("isolation", "")});
  fmt::print("{}", table.str());
  const CliJson store = about.value("object_store", CliJson::object());
  if (!store.value("answers", true)) {
    fmt::print("the object store has not answered since {}; what is cached is served: {}\n",
               store.value("away_since", ""), store.value("error", ""));
  }
  return {};
}

// "95 %"; "shadow 10 %"; of a version that is being rolled out "rollout 5 %: hold".
std::string traffic_text(const CliJson& version) {
  if (version.contains("rollout")) return "rollout " + version.value("rollout", "");
  if (const int shadow = version.value("shadow", 0); shadow > 0)
    return fmt::format("shadow {} %", shadow);
  return fmt::format("{} %", version.value("weight", 0));
}

std::string top_text(const CliJson& top) {
  Table table({"FUNCTION", "TRAFFIC", "TEMPLATE", "IDLE", "RUNNING", "STARTING", "QUEUED", "REQ/S",
               "MEMORY", "LAST DECISION"});
  for (const CliJson& item : top.value("functions", CliJson::array())) {
    table.add({item.value("label", ""), traffic_text(item), item.value("template", ""),
               std::to_string(item.value("idle", 0)), std::to_string(item.value("running", 0)),
               std::to_string(item.value("starting", 0)), std::to_string(item.value("queued", 0)),
               fmt::format("{:.1f}", item.value("rate", 0.0)),
               human_bytes(item.value("memory_bytes", 0ULL)), item.value("why", "")});
  }
  return table.empty() ? "nothing runs: every function is at zero\n" : table.str();
}

Status top(bool once, const CliContext& context) {
  NodeClient node = context.node();
  while (true) {
    const CliJson now = TRY(node.get("/api/v1/top"));
    if (context.json) {
      print_json(now);
      return {};
    }
    if (once || ::isatty(STDOUT_FILENO) != 1) {
      fmt::print("{}", top_text(now));
      return {};
    }
    fmt::print("\033[H\033[2J{}", top_text(now));
    (void)std::fflush(stdout);
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

struct UsageFlags {
  std::string since;
  std::string function;
};

Status usage(const UsageFlags& flags, const CliContext& context) {
  const std::string query = fmt::format("/api/v1/usage?since={}&function={}",
                                        path_segment(flags.since), path_segment(flags.function));
  const CliJson bill = TRY(context.node().get(query));
  if (context.json) {
    print_json(bill);
    return {};
  }
  Table table({"FUNCTION", "VERSION", "REQUESTS", "ERRORS", "RUN", "CPU", "GIB-SECONDS", "PRICE"});
  for (const CliJson& row : bill.value("rows", CliJson::array())) {
    table.add({row.value("function", ""), std::to_string(row.value("version", 0)),
               human_count(row.value("requests", 0ULL)), human_count(row.value("errors", 0ULL)),
               human_micros(static_cast<double>(row.value("run_us", 0ULL))),
               human_micros(static_cast<double>(row.value("cpu_us", 0ULL))),
               row.value("gb_seconds", ""), row.value("price", "")});
  }
  if (table.empty()) {
    fmt::print("no predictions were made in this time\n");
    return {};
  }
  fmt::print("{}total {}\n", table.str(), bill.value("total", ""));
  return {};
}

Status logs(const std::string& name, bool follow, const CliContext& context) {
  const ModelRef ref = TRY(parse_model_ref(name));
  return context.node().stream(
      "GET",
      fmt::format("/api/v1/functions/{}/logs{}", ref.function.str(), follow ? "?follow=true" : ""),
      {}, [&](const CliJson& line) {
        if (context.json) {
          fmt::print("{}\n", line.dump());
        } else {
          fmt::print("{} {} {}\n", line.value("time", ""), line.value("source", ""),
                     line.value("text", ""));
        }
        (void)std::fflush(stdout);
      });
}

Status gc(bool dry_run, const CliContext& context) {
  const CliJson done = TRY(context.node().send(
      "POST", fmt::format("/api/v1/gc?dry_run={}", dry_run), CliJson::object()));
  if (context.json) {
    print_json(done);
    return {};
  }
  fmt::print("{} {} objects, {}\n", dry_run ? "would remove" : "removed", done.value("objects", 0),
             human_bytes(done.value("bytes", 0ULL)));
  if (const auto young = done.value("young_blobs", 0ULL); young > 0) {
    fmt::print(
        "{} more are needed by nobody but younger than an hour: a deploy may be about to use "
        "them; ask again then\n",
        young);
  }
  return {};
}

Status backup(const std::string& folder, const CliContext& context) {
  const CliJson done = TRY(context.node().send(
      "POST", "/api/v1/backup", {{"directory", std::filesystem::absolute(folder).native()}}));
  if (context.json) {
    print_json(done);
  } else {
    fmt::print("backup in {}: {} files, {}\n", folder, done.value("files", 0),
               human_bytes(done.value("bytes", 0ULL)));
  }
  return {};
}

}  // namespace

void print_json(const CliJson& json) {
  fmt::print("{}\n", json.dump(2, ' ', false, CliJson::error_handler_t::replace));
}

void add_status_verb(CLI::App& app, CliContext& context) {
  app.add_subcommand("status", "Show whether the node is ready and what it holds")
      ->callback([&context] { context.outcome = status(context); });
}

void add_top_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("top", "Watch templates, instances and queues, and why they are so");
  auto once = std::make_shared<bool>(false);
  verb->add_flag("--once", *once, "print once and end");
  verb->callback([once, &context] { context.outcome = top(*once, context); });
}

void add_usage_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("usage", "Show what was used, priced");
  auto flags = std::make_shared<UsageFlags>();
  verb->add_option("--since", flags->since,
                   "a duration (24h) or a time (2026-01-31T00:00:00Z); default: all");
  verb->add_option("--function", flags->function, "only this function");
  verb->callback([flags, &context] { context.outcome = usage(*flags, context); });
}

void add_logs_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("logs", "Show what a function's own processes printed");
  auto name = std::make_shared<std::string>();
  auto follow = std::make_shared<bool>(false);
  verb->add_option("NAME", *name, "the function")->required();
  verb->add_flag("-f,--follow", *follow, "go on as lines arrive");
  verb->callback([name, follow, &context] { context.outcome = logs(*name, *follow, context); });
}

void add_gc_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand("gc", "Remove bytes that no version needs any more");
  auto dry_run = std::make_shared<bool>(false);
  verb->add_flag("--dry-run", *dry_run, "only say what would go");
  verb->callback([dry_run, &context] { context.outcome = gc(*dry_run, context); });
}

void add_backup_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb = app.add_subcommand(
      "backup", "Copy the running node's registry, blobs and ledger to a folder");
  auto folder = std::make_shared<std::string>();
  verb->add_option("DIR", *folder, "a folder that does not exist yet, on the node's machine")
      ->required();
  verb->callback([folder, &context] { context.outcome = backup(*folder, context); });
}

}  // namespace mayfly
