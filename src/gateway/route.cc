#include "gateway/route.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "net/http.h"

namespace mayfly {
namespace {

struct Pattern {
  std::string_view method;
  std::string_view path;
  Endpoint endpoint;
};

// The hot ones first: the search is linear.
constexpr auto kPatterns = [] {
  using enum Endpoint;
  return std::to_array<Pattern>({
      {"POST", "/v2/models/{name}/infer", Infer},
      {"POST", "/v2/models/{name}/versions/{version}/infer", Infer},
      {"POST", "/functions/{name}", Invoke},
      {"POST", "/v1/models/{name}:predict", TfPredict},
      {"POST", "/v1/models/{name}/versions/{version}:predict", TfPredict},
      {"POST", "/v1/models/{name}/labels/{label}:predict", TfPredict},
      {"GET", "/v2", ServerMetadata},
      {"GET", "/v2/health/live", ServerLive},
      {"GET", "/v2/health/ready", ServerReady},
      {"GET", "/v2/models/stats", ModelStatistics},  // before {name}: the protocol's own word
      {"GET", "/v2/models/{name}", ModelMetadata},
      {"GET", "/v2/models/{name}/versions/{version}", ModelMetadata},
      {"GET", "/v2/models/{name}/ready", ModelReady},
      {"GET", "/v2/models/{name}/versions/{version}/ready", ModelReady},
      {"GET", "/v1/models/{name}", TfModelStatus},
      {"GET", "/v1/models/{name}/versions/{version}", TfModelStatus},
      {"GET", "/v1/models/{name}/labels/{label}", TfModelStatus},
      {"GET", "/v1/models/{name}/metadata", TfModelMetadata},
      {"GET", "/v1/models/{name}/labels/{label}/metadata", TfModelMetadata},
      {"GET", "/v1/models/{name}/versions/{version}/metadata", TfModelMetadata},
      {"POST", "/v1/models/{name}:classify", TfUnsupported},
      {"POST", "/v1/models/{name}/versions/{version}:classify", TfUnsupported},
      {"POST", "/v1/models/{name}:regress", TfUnsupported},
      {"POST", "/v1/models/{name}/versions/{version}:regress", TfUnsupported},
      {"GET", "/metrics", Metrics},
      {"GET", "/api/v1/status", NodeStatus},
      {"GET", "/api/v1/top", NodeTop},
      {"GET", "/openapi.json", OpenApi},
      {"GET", "/api/v1/doctor", NodeDoctor},
      {"GET", "/api/v1/functions", ListFunctions},
      {"GET", "/api/v1/functions/{name}", DescribeFunction},
      {"DELETE", "/api/v1/functions/{name}", DeleteFunction},
      {"GET", "/api/v1/functions/{name}/versions", ListVersions},
      {"POST", "/api/v1/functions/{name}/versions", Deploy},
      {"GET", "/api/v1/functions/{name}/versions/{version}", DescribeVersion},
      {"GET", "/api/v1/functions/{name}/settings", GetSettings},
      {"PATCH", "/api/v1/functions/{name}/settings", ChangeSettings},
      {"GET", "/api/v1/functions/{name}/history", History},
      {"GET", "/api/v1/functions/{name}/traffic", GetTraffic},
      {"PUT", "/api/v1/functions/{name}/traffic", SplitTraffic},
      {"POST", "/api/v1/functions/{name}/rollback", RollBack},
      {"GET", "/api/v1/functions/{name}/rollout", GetRollout},
      {"POST", "/api/v1/functions/{name}/rollout", StartRollout},
      {"DELETE", "/api/v1/functions/{name}/rollout", AbortRollout},
      {"POST", "/api/v1/functions/{name}/rollout/approve", ApproveRollout},
      {"POST", "/api/v1/functions/{name}/rollout/pause", PauseRollout},
      {"POST", "/api/v1/functions/{name}/rollout/resume", ResumeRollout},
      {"PUT", "/api/v1/functions/{name}/aliases/{alias}", MoveAlias},
      {"DELETE", "/api/v1/functions/{name}/aliases/{alias}", RemoveAlias},
      {"GET", "/api/v1/functions/{name}/logs", FunctionLogs},
      {"POST", "/api/v1/functions/{name}/evict", Evict},
      {"GET", "/api/v1/functions/{name}/events", ListEvents},
      {"GET", "/api/v1/events/{id}", EventReply},
      {"DELETE", "/api/v1/events/{id}", CancelEvent},
      {"GET", "/api/v1/events/{id}/state", EventState},
      {"POST", "/api/v1/events/{id}/redrive", RedriveEvent},
      {"POST", "/api/v1/events/{id}/redeliver", RedeliverEvent},
      {"POST", "/api/v1/functions/{name}/jobs", SubmitJob},
      {"GET", "/api/v1/jobs", ListJobs},
      {"GET", "/api/v1/jobs/{id}", DescribeJob},
      {"DELETE", "/api/v1/jobs/{id}", CancelJob},
      {"POST", "/api/v1/jobs/{id}/pause", PauseJob},
      {"POST", "/api/v1/jobs/{id}/resume", ResumeJob},
      {"GET", "/api/v1/jobs/{id}/file", JobResultFile},
      {"GET", "/api/v1/jobs/{id}/events", JobEvents},
      {"POST", "/api/v1/functions/{name}/trainings", CreateTraining},
      {"GET", "/api/v1/datasets", ListDatasets},
      {"GET", "/api/v1/datasets/{name}", DescribeDataset},
      {"POST", "/api/v1/datasets/{name}/snapshots", CreateSnapshot},
      {"GET", "/api/v1/datasets/{name}/snapshots/{version}", DescribeSnapshot},
      {"DELETE", "/api/v1/datasets/{name}/snapshots/{version}", EraseSnapshot},
      {"GET", "/api/v1/schedules", ListSchedules},
      {"POST", "/api/v1/schedules", CreateSchedule},
      {"GET", "/api/v1/schedules/{schedule}", ShowSchedule},
      {"DELETE", "/api/v1/schedules/{schedule}", DeleteSchedule},
      {"POST", "/api/v1/schedules/{schedule}/pause", PauseSchedule},
      {"POST", "/api/v1/schedules/{schedule}/resume", ResumeSchedule},
      {"POST", "/api/v1/schedules/{schedule}/run", RunSchedule},
      {"HEAD", "/api/v1/blobs/{digest}", BlobState},
      {"POST", "/api/v1/blobs", BlobUpload},
      {"PATCH", "/api/v1/blobs/{digest}", BlobAppend},
      {"GET", "/api/v1/usage", Usage},
      {"POST", "/api/v1/gc", CollectGarbage},
      {"POST", "/api/v1/backup", Backup},
      {"GET", "/api/v1/keys", ListKeys},
      {"POST", "/api/v1/keys", CreateKey},
      {"DELETE", "/api/v1/keys/{id}", RevokeKey},
      {"GET", "/api/v1/audit", ShowAudit},
      {"GET", "/api/v1/secrets", ListSecrets},
      {"PUT", "/api/v1/secrets/{secret}", SetSecret},
      {"DELETE", "/api/v1/secrets/{secret}", DeleteSecret},
      {"GET", "/api/v1/webhooks/secret", ShowWebhookKey},
      {"POST", "/api/v1/webhooks/secret/rotate", RotateWebhookKey},
      {"GET", "/api/v1/signing-keys", ListSigningKeys},
      {"POST", "/api/v1/signing-keys", CreateSigningKey},
      {"PUT", "/api/v1/signing-keys/{key}", TrustSigningKey},
      {"DELETE", "/api/v1/signing-keys/{key}", RevokeSigningKey},
      {"GET", "/api/v1/functions/{name}/versions/{version}/export", ExportVersion},
      {"GET", "/api/v1/functions/{name}/versions/{version}/file", VersionFile},
      {"GET", "/api/v1/projects", ListProjects},
      {"POST", "/api/v1/projects", CreateProject},
      {"PATCH", "/api/v1/projects/{project}/quotas", SetQuotas},
      {"GET", "/v2/models/{name}/stats", ModelStatistics},
      {"GET", "/v2/models/{name}/versions/{version}/stats", ModelStatistics},
      {"GET", "/v2/models/{name}/config", ModelConfig},
      {"GET", "/v2/models/{name}/versions/{version}/config", ModelConfig},
      {"POST", "/v2/repository/index", RepositoryIndex},
      {"POST", "/v2/repository/models/{name}/load", RepositoryLoad},
      {"POST", "/v2/repository/models/{name}/unload", RepositoryUnload},
      {"POST", "/v2/models/{name}/generate", Generate},
      {"POST", "/v2/models/{name}/generate_stream", GenerateStream},
      {"POST", "/v2/models/{name}/versions/{version}/generate", Generate},
      {"POST", "/v2/models/{name}/versions/{version}/generate_stream", GenerateStream},
      {"GET", "/v2/systemsharedmemory/status", ListClientMemory},
      {"GET", "/v2/systemsharedmemory/region/{region}/status", ListClientMemory},
      {"POST", "/v2/systemsharedmemory/region/{region}/register", AddClientMemory},
      {"POST", "/v2/systemsharedmemory/region/{region}/unregister", RemoveClientMemory},
      {"POST", "/v2/systemsharedmemory/unregister", RemoveClientMemory},
      {"GET", "/v2/cudasharedmemory/status", CudaSharedMemory},
      {"GET", "/v2/cudasharedmemory/region/{region}/status", CudaSharedMemory},
      {"POST", "/v2/cudasharedmemory/region/{region}/register", CudaSharedMemory},
      {"POST", "/v2/cudasharedmemory/region/{region}/unregister", CudaSharedMemory},
      {"POST", "/v2/cudasharedmemory/unregister", CudaSharedMemory},
      {"GET", "/v2/logging", Logging},
      {"POST", "/v2/logging", Logging},
      {"GET", "/v2/trace/setting", Tracing},
      {"POST", "/v2/trace/setting", Tracing},
      {"GET", "/v2/models/{name}/trace/setting", Tracing},
      {"POST", "/v2/models/{name}/trace/setting", Tracing},
  });
}();

// Takes the first segment off `path` ("/a/b" → "a", leaving "/b").
std::string_view next_segment(std::string_view& path) {
  path.remove_prefix(1);
  const std::size_t slash = std::min(path.find('/'), path.size());
  const std::string_view segment = path.substr(0, slash);
  path.remove_prefix(slash);
  return segment;
}

struct Captures {
  std::string_view name;
  std::string_view version;
  std::string_view label;  // TensorFlow Serving's word for an alias
};

// "{name}" or "{name}:verb" against what stands in the path.
bool capture(std::string_view want, std::string_view have, Captures& captures) {
  const std::size_t end = want.find('}') + 1;
  const std::string_view verb = want.substr(end);
  if (!have.ends_with(verb)) return false;
  have.remove_suffix(verb.size());
  if (have.empty() || have.find(':') != std::string_view::npos) return false;
  if (want.starts_with("{name}")) {
    captures.name = have;
  } else if (want.starts_with("{label}")) {
    captures.label = have;
  } else {
    captures.version = have;
  }
  return true;
}

bool matches(std::string_view pattern, std::string_view path, Captures& captures) {
  while (!pattern.empty()) {
    if (path.empty() || path.front() != '/') return false;
    const std::string_view want = next_segment(pattern);
    const std::string_view have = next_segment(path);
    if (want.starts_with('{') ? !capture(want, have, captures) : want != have) return false;
  }
  return path.empty();
}

// A malformed escape stays as it is: it then fails to be a name, with the name's own message.
std::string decoded(std::string_view text) {
  return percent_decode(text).value_or(std::string(text));
}

}  // namespace

bool is_control(Endpoint endpoint) { return endpoint >= Endpoint::NodeStatus; }

RouteResult find_route(std::string_view method, std::string_view path) {
  if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  RouteResult result;
  for (const Pattern& pattern : kPatterns) {
    Captures captures;
    if (!matches(pattern.path, path, captures)) continue;
    if (pattern.method == method || (method == "HEAD" && pattern.method == "GET")) {
      result.route = Route{.endpoint = pattern.endpoint,
                           .name = decoded(captures.name),
                           .version = decoded(captures.version)};
      if (!captures.label.empty()) result.route->name += "@" + decoded(captures.label);
      return result;
    }
    result.error = RouteError::WrongMethod;
    if (result.allowed.find(pattern.method) == std::string::npos) {
      result.allowed += fmt::format("{}{}", result.allowed.empty() ? "" : ", ", pattern.method);
    }
  }
  return result;
}

std::vector<Endpoint> routed_endpoints() {
  std::vector<Endpoint> endpoints;
  for (const Pattern& pattern : kPatterns) {
    if (std::ranges::find(endpoints, pattern.endpoint) == endpoints.end())
      endpoints.push_back(pattern.endpoint);
  }
  return endpoints;
}

std::string routed_methods() {
  std::string methods;
  for (const Pattern& pattern : kPatterns) {
    if (methods.find(pattern.method) == std::string::npos)
      methods += fmt::format("{}{}", methods.empty() ? "" : ", ", pattern.method);
  }
  return methods;
}

std::vector<std::string> route_patterns() {
  std::vector<std::string> patterns;
  for (const Pattern& pattern : kPatterns)
    patterns.push_back(fmt::format("{} {}", pattern.method, pattern.path));
  return patterns;
}

}  // namespace mayfly
