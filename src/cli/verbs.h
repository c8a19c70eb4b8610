// The verbs, one file each. A verb declares itself to CLI11 and, when it was named, runs and leaves
// its outcome in the context: main prints the error and exits with the code documented in
// docs/cli.md.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cli/node_client.h"

namespace CLI {
class App;
}

namespace mayfly {

struct CliContext {
  std::string url;         // --url
  std::string configured;  // the URL of the configuration; empty: none
  TlsClientFiles tls;      // --ca, --client-cert, --client-key
  Path key_file;           // --key-file
  Path data;               // the data folder of the configuration
  bool json = false;       // --json
  Status outcome;          // of the verb that ran
  int exit = 0;            // where it did what it was asked to, and has more to say (docs/cli.md)

  NodeClient node() const {
    return NodeClient(find_node_url(url, configured), find_tls_files(tls), find_key(key_file));
  }
  // Without a key of one's own: the socket in the data folder, which asks for none; unless another
  // node is named, which is not to be mistaken for the one on this machine.
  NodeClient admin_node(const Path& folder) const {
    const Result<std::string> key = find_key(key_file);
    const bool elsewhere = !url.empty() || (folder.empty() && !url_of_environment().empty());
    if (!key || !key->empty() || elsewhere) return node();
    return NodeClient("unix:" + ((folder.empty() ? data : folder) / "run" / "admin.sock").native());
  }
};

void add_init_verb(CLI::App& app, CliContext& context);
void add_deploy_verb(CLI::App& app, CliContext& context);
void add_dev_verb(CLI::App& app, CliContext& context);
void add_invoke_verb(CLI::App& app, CliContext& context);
void add_events_verb(CLI::App& app, CliContext& context);
void add_batch_verb(CLI::App& app, CliContext& context);
void add_run_verb(CLI::App& app, CliContext& context);
void add_jobs_verb(CLI::App& app, CliContext& context);
void add_data_verb(CLI::App& app, CliContext& context);
void add_train_verb(CLI::App& app, CliContext& context);
void add_schedule_verb(CLI::App& app, CliContext& context);
void add_functions_verb(CLI::App& app, CliContext& context);
void add_versions_verb(CLI::App& app, CliContext& context);
void add_describe_verb(CLI::App& app, CliContext& context);
void add_delete_verb(CLI::App& app, CliContext& context);
void add_configure_verb(CLI::App& app, CliContext& context);
void add_key_verb(CLI::App& app, CliContext& context);
void add_secret_verb(CLI::App& app, CliContext& context);
void add_signing_key_verb(CLI::App& app, CliContext& context);
void add_export_verb(CLI::App& app, CliContext& context);
void add_import_verb(CLI::App& app, CliContext& context);
void add_webhook_verb(CLI::App& app, CliContext& context);
void add_project_verb(CLI::App& app, CliContext& context);
void add_audit_verb(CLI::App& app, CliContext& context);
void add_traffic_verb(CLI::App& app, CliContext& context);
void add_alias_verb(CLI::App& app, CliContext& context);
void add_rollout_verb(CLI::App& app, CliContext& context);
void add_rollback_verb(CLI::App& app, CliContext& context);
void add_history_verb(CLI::App& app, CliContext& context);
void add_evict_verb(CLI::App& app, CliContext& context);
void add_logs_verb(CLI::App& app, CliContext& context);
void add_usage_verb(CLI::App& app, CliContext& context);
void add_status_verb(CLI::App& app, CliContext& context);
void add_top_verb(CLI::App& app, CliContext& context);
void add_gc_verb(CLI::App& app, CliContext& context);
void add_backup_verb(CLI::App& app, CliContext& context);
void add_completion_verb(CLI::App& app, CliContext& context);
void add_help_verb(CLI::App& app, CliContext& context);

// What mayfly deploy NAME PATH does.
Status deploy_path(const std::string& name, const Path& path, const CliContext& context);

// What mayfly data put NAME SOURCE does: the snapshot, as in "credit@3".
Result<std::string> put_dataset(const std::string& name, const std::string& source,
                                const std::string& target, NodeClient& node);

// Of --rollout: "auto", or a JSON file.
Result<CliJson> read_rollout_plan(const std::string& plan);

// What is said when the first word is no verb.
Error unknown_verb(std::string_view word);

// Prints JSON as it is, for --json.
void print_json(const CliJson& json);

}  // namespace mayfly
