// mayfly: server and command line in one executable.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "app/config.h"
#include "app/verbs.h"
#include "cli/verbs.h"
#include "core/reason.h"
#include "core/version.h"

namespace mayfly {
namespace {

void add_verbs(CLI::App& app, CliContext& context) {
  add_serve_verb(app, context);
  add_init_verb(app, context);
  add_dev_verb(app, context);
  add_deploy_verb(app, context);
  add_invoke_verb(app, context);
  add_events_verb(app, context);
  add_run_verb(app, context);
  add_batch_verb(app, context);
  add_jobs_verb(app, context);
  add_data_verb(app, context);
  add_train_verb(app, context);
  add_schedule_verb(app, context);
  add_export_verb(app, context);
  add_import_verb(app, context);
  add_functions_verb(app, context);
  add_versions_verb(app, context);
  add_describe_verb(app, context);
  add_traffic_verb(app, context);
  add_alias_verb(app, context);
  add_rollback_verb(app, context);
  add_rollout_verb(app, context);
  add_configure_verb(app, context);
  add_history_verb(app, context);
  add_evict_verb(app, context);
  add_delete_verb(app, context);
  add_logs_verb(app, context);
  add_usage_verb(app, context);
  add_status_verb(app, context);
  add_top_verb(app, context);
  add_key_verb(app, context);
  add_secret_verb(app, context);
  add_webhook_verb(app, context);
  add_signing_key_verb(app, context);
  add_project_verb(app, context);
  add_audit_verb(app, context);
  add_gc_verb(app, context);
  add_backup_verb(app, context);
  add_restore_verb(app, context);
  add_doctor_verb(app, context);
  add_completion_verb(app, context);
  add_help_verb(app, context);
}

struct Configured {
  std::string url;
  Path data;
};

// The node's URL and data folder by the configuration. What cannot be read is serve's to complain
// about.
Configured read_configured() {
  const ConfigValues environment = read_config_environment();
  const ConfigValues file = read_config_files("").value_or(ConfigValues{});
  const auto value = [&](std::string_view key) -> std::string {
    for (const ConfigValues& source : {environment, file}) {
      if (const auto found = source.find(key); found != source.end()) return found->second;
    }
    return {};
  };
  const std::string listen = value("server.listen");
  const bool tls = !value("server.tls_certificate").empty();
  const std::string data = value("server.data");
  return {.url = listen.empty() && !tls ? std::string() : url_of_listen(listen, tls),
          .data = std::filesystem::absolute(data.empty() ? default_data_folder() : Path(data))};
}

int print_error(const Error& error) {
  fmt::print(stderr, "mayfly: {}{}\n", error.message,
             error.reason.empty() ? "" : fmt::format(" ({})", error.reason));
  return exit_code(error.code);
}

// CLI11 says no more than that a subcommand is required.
Error missing_verb(const CLI::App& app) {
  const std::vector<std::string> rest = app.remaining();
  const auto word =
      std::ranges::find_if_not(rest, [](const std::string& text) { return text.starts_with('-'); });
  if (word != rest.end()) return unknown_verb(*word);
  return {.code = Code::InvalidArgument, .message = "name a verb; mayfly help lists them"};
}

int complain(const CLI::App& app, const CLI::ParseError& error) {
  const bool required = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError);
  if (required && app.get_subcommands().empty()) return print_error(missing_verb(app));
  return app.exit(error) == 0 ? 0 : exit_code(Code::InvalidArgument);
}

int run(int argc, char** argv) {
  CLI::App app("Mayfly: serverless machine learning that you run yourself");
  CliContext context;
  const Configured configured = read_configured();
  context.configured = configured.url;
  context.data = configured.data;
  app.set_version_flag("--version", std::string(kVersion));
  app.add_option("--url", context.url,
                 "the node; else MAYFLY_URL, else the configuration, else http://127.0.0.1:8080");
  app.add_option("--ca", context.tls.ca,
                 "a PEM file: who vouches for an https node; else MAYFLY_CA, else the system");
  app.add_option("--client-cert", context.tls.certificate,
                 "a PEM file: the certificate shown to a node that demands one; else "
                 "MAYFLY_CLIENT_CERT");
  app.add_option("--client-key", context.tls.key, "its key; else MAYFLY_CLIENT_KEY");
  app.add_option("--key-file", context.key_file,
                 "a file with the key that the node asks for; else MAYFLY_KEY");
  app.add_flag("--json", context.json, "print JSON");
  app.require_subcommand(1);
  app.fallthrough();
  app.footer("mayfly help VERB explains a verb; docs/cli.md lists the exit codes.");
  add_verbs(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return complain(app, e);
  }
  return context.outcome ? context.exit : print_error(context.outcome.error());
}

}  // namespace
}  // namespace mayfly

int main(int argc, char** argv) { return mayfly::run(argc, argv); }
