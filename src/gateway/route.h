// Which endpoint a method and path name. One table; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "identity/principal.h"

namespace mayfly {

enum class Endpoint : std::uint8_t {
  // Predictions (data plane)
  Infer,
  Invoke,     // POST /functions/NAME
  TfPredict,  // POST /v1/models/NAME:predict
  Generate,   // POST /v2/models/NAME/generate
  GenerateStream,
  // Open Inference Protocol v2
  ServerMetadata,
  ServerLive,
  ServerReady,
  ModelMetadata,
  ModelReady,
  ModelConfig,
  // Named by the protocol's extensions, not served here: 501
  CudaSharedMemory,
  Logging,
  Tracing,
  // TensorFlow Serving's REST API
  TfModelStatus,
  TfModelMetadata,
  TfUnsupported,  // classify and regress: 501
  // Control
  NodeStatus,
  ModelStatistics,
  ListClientMemory,  // system shared memory
  AddClientMemory,
  RemoveClientMemory,
  RepositoryIndex,
  RepositoryLoad,
  RepositoryUnload,
  NodeTop,
  OpenApi,
  NodeDoctor,
  ListFunctions,
  DescribeFunction,
  DeleteFunction,
  ListVersions,
  DescribeVersion,
  Deploy,
  GetSettings,
  ChangeSettings,
  History,
  GetTraffic,
  SplitTraffic,
  RollBack,
  GetRollout,
  StartRollout,
  ApproveRollout,
  PauseRollout,
  ResumeRollout,
  AbortRollout,
  MoveAlias,
  RemoveAlias,
  FunctionLogs,
  ListEvents,
  EventReply,  // where a client asks that was told 202
  EventState,
  CancelEvent,
  RedriveEvent,
  RedeliverEvent,
  SubmitJob,
  ListJobs,
  DescribeJob,
  CancelJob,
  PauseJob,
  ResumeJob,
  JobResultFile,
  JobEvents,
  CreateTraining,
  ListDatasets,
  DescribeDataset,
  CreateSnapshot,
  DescribeSnapshot,
  EraseSnapshot,
  ListSchedules,
  CreateSchedule,
  ShowSchedule,
  DeleteSchedule,
  PauseSchedule,
  ResumeSchedule,
  RunSchedule,
  Evict,
  BlobState,
  BlobUpload,
  BlobAppend,
  Usage,
  CollectGarbage,
  Backup,
  CreateKey,
  ListKeys,
  RevokeKey,
  ShowAudit,
  ListSecrets,
  SetSecret,
  DeleteSecret,
  ShowWebhookKey,
  RotateWebhookKey,
  ListSigningKeys,
  CreateSigningKey,
  TrustSigningKey,
  RevokeSigningKey,
  ExportVersion,
  VersionFile,
  ListProjects,
  CreateProject,
  SetQuotas,
  // Sight
  Metrics,
};

// Control requests change or reveal the node; a foreign web page may not make them.
bool is_control(Endpoint endpoint);

struct Route {
  Endpoint endpoint = Endpoint::ServerMetadata;
  std::string name;     // {name}: a function, percent-decoded; may hold "@3"; or a dataset
  std::string version;  // {version}, {digest}, {alias}, {id}, {schedule}, {region}, {secret}, {key}
  // Who asks; not of the table, but known before anything is answered. From then on `name` is the
  // function as the node knows it: "team/fraud@3".
  PrincipalRef caller{};
  // Whose project was changed, where that is not the caller's: for the audit log.
  std::string project{};
};

// Every endpoint of the table once.
std::vector<Endpoint> routed_endpoints();
// Every method of the table: "GET, POST, PUT".
std::string routed_methods();

enum class RouteError : std::uint8_t { NoSuchPath, WrongMethod };

struct RouteResult {
  std::optional<Route> route;
  RouteError error = RouteError::NoSuchPath;
  std::string allowed;  // the Allow header of a 405
};

// A ':' separates a verb from a name (NAME:predict), so that no name or version holds one.
// `path` is the target without its query, as it came. HEAD is matched as GET unless HEAD itself
// stands in the table.
RouteResult find_route(std::string_view method, std::string_view path);

// "METHOD /path/{name}" of every route: documentation and the specification are tested against it.
std::vector<std::string> route_patterns();

}  // namespace mayfly
