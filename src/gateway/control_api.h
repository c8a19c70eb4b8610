// The control API under /api/v1: every verb of the command line is a call of it. Values in, JSON
// out; docs/openapi.yaml describes it. Loop thread; what blocks runs on the pool.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "async/gate.h"
#include "async/pool.h"
#include "async/task.h"
#include "core/json_reader.h"
#include "dispatch/dispatcher.h"
#include "gateway/route.h"
#include "identity/blob_owners.h"
#include "identity/signing_key_store.h"
#include "meter/ledger.h"
#include "meter/prices.h"
#include "net/egress_policy.h"
#include "net/exchange.h"
#include "publish/publisher.h"
#include "publish/scrub.h"
#include "registry/backup.h"
#include "registry/pins.h"
#include "registry/registry.h"
#include "remote/s3_client.h"
#include "sandbox/cgroup_support.h"
#include "serving/catalog.h"
#include "serving/function_logs.h"
#include "serving/metrics.h"
#include "serving/response_cache.h"
#include "serving/rollouts.h"
#include "serving/shadows.h"
#include "serving/statistics.h"
#include "serving/traffic_switch.h"
#include "store/blob_store.h"
#include "store/data_dir.h"
#include "trace/span_exporter.h"

namespace mayfly {

class ControlApi {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Pool& pool;  // blocking work
    DataDir& data;
    BlobStore& blobs;
    BlobOwners& owners;
    Pins& pins;
    Registry& registry;
    Catalog& catalog;
    Dispatcher& dispatcher;
    Shadows& shadows;
    TrafficSwitch& traffic;
    Rollouts& rollouts;
    SigningKeyStore& signing;
    const Scrub& scrub;
    ResponseCache& cache;
    Publisher& publisher;
    Ledger& ledger;
    Metrics& metrics;
    Statistics& statistics;
    FunctionLogs& logs;
    const CgroupSupport& cgroups;
    const EgressPolicy& egress;  // where functions may have others told
    Prices prices;
    std::string isolation;        // "full", or what is missing
    std::function<bool()> ready;  // readiness of the node
    std::function<std::size_t()> connections;
    // How a version was trained, for people; null where it was not. Blocking.
    std::function<Result<Json>(const FunctionName&, VersionNumber)> training;
    const SpanExporter* spans = nullptr;  // null: none are exported
    const S3Client* objects = nullptr;    // null: blobs are on the disk
    std::vector<BackupPart> backup = {};  // what else belongs into one
  };

  explicit ControlApi(Parts parts) : parts_(std::move(parts)), started_(parts_.loop.now()) {}

  // Every endpoint that answers at once. Deploy and FunctionLogs stream: see the next two.
  Task<Result<Response>> call(Exchange& exchange, const Route& route);
  // An error that deploy() returns has been told to nobody. Otherwise the outcome stands in the
  // stream's last line, which is sent when `note` has taken it.
  using Note = std::function<Task<void>(const Status& outcome)>;
  Task<Status> deploy(Exchange& exchange, const Route& route, std::string_view cors_origin,
                      Note note);
  // Asked again each time there is something to send: an error ends the stream.
  using MayGoOn = std::function<Status()>;
  Task<Status> follow_logs(Exchange& exchange, const Route& route, std::string_view cors_origin,
                           MayGoOn may_go_on);

 private:
  // Functions
  Task<Result<Response>> list_functions(const Route& route);
  Task<Result<Response>> describe(const Route& route);
  Task<Result<Response>> list_versions(const Route& route);
  Task<Result<Response>> remove(const Exchange& exchange, const Route& route);
  Task<Result<Response>> change_settings(Exchange& exchange, const Route& route);
  Task<Result<Response>> history(const Route& route);
  Task<Result<Response>> evict(const Route& route);
  Result<Response> settings(const Route& route) const;
  Status check_settings(const Route& route, std::string_view changes) const;
  Task<bool> called_recently(std::string function);
  // Traffic
  Result<Response> traffic(const Route& route) const;
  Task<Result<Response>> split_traffic(Exchange& exchange, const Route& route);
  Task<Result<Response>> roll_back(Exchange& exchange, const Route& route);
  Task<Result<Response>> move_alias(Exchange& exchange, const Route& route);
  Task<Result<Response>> remove_alias(Exchange& exchange, const Route& route);
  Task<Result<Response>> rollout(Exchange& exchange, const Route& route);
  Task<Status> decide_rollout(Exchange& exchange, const Route& route, FunctionName name);
  Task<Status> start_rollout(Exchange& exchange, FunctionName name, Author author);
  Json describe_traffic(const FunctionEntry& function) const;
  // Node
  Result<Response> status(const Route& route) const;
  Result<Response> top(const Route& route) const;
  Task<Result<Response>> openapi(const Route& route);
  Task<Result<Response>> doctor();
  Result<Response> metrics() const;
  std::optional<SpanExporter::Counts> spans_exported() const;
  Task<Result<Response>> usage(const Exchange& exchange, const Route& route);
  Task<Result<Response>> collect(const Exchange& exchange);
  Task<Result<Response>> backup(Exchange& exchange);

  struct Deploying;
  struct DeployBody;
  static Result<DeployBody> parse_deploy(const std::string& text);
  // Blocking:
  Status check_uploaded(std::string_view project, const ArtifactFile& file) const;
  Status take_imported(std::string_view project, DeployBody& request) const;
  Task<Result<Json>> publish(const Deploying& deploying, const Route& route, Exchange& exchange);
  Task<Json> notes_on(FunctionName name, Signature signature, Json notes);
  DispatchStatus status_for(const Principal& caller) const;
  Json describe_versions(const DispatchStatus& status) const;
  Status check_rollout(const FunctionName& function) const;
  Status check_canary(const FunctionName& function, std::uint32_t percent) const;
  // Functions that call functions (control_calls.cc)
  Status check_calls(const FunctionName& function, const VersionOptions& options) const;
  Result<std::vector<std::string>> callers_of(const FunctionName& called) const;
  Task<Status> check_callers(FunctionName called);
  Task<Json> describe_integrity(Digest artifact, std::shared_ptr<const Manifest> manifest);
  Json describe_processes(std::string_view function) const;

  Parts parts_;
  TimePoint started_;
};

// Lines of history, as every endpoint shows them.
Json history_json(const std::vector<Change>& changes);
Response json_response(const Json& json, int status = 200);
Task<Result<std::string>> read_control_body(Exchange& exchange);
// Who makes a control request: the key, or the peer's address until there are keys.
std::string author_of(const Exchange& exchange, const Route& route);

}  // namespace mayfly
