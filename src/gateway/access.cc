#include "gateway/access.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/caller_reason.h"
#include "core/names.h"
#include "core/project.h"
#include "core/reason.h"

namespace mayfly {
namespace {

bool granted(const Scopes& scopes, Verb verb, std::string_view function) {
  return function.empty() ? scopes.allow_any(verb) : scopes.allow(verb, function);
}

Verb verb_for(Needs needs) {
  switch (needs) {
    case Needs::Open:
    case Needs::Invoke:
    case Needs::Describe:
    case Needs::Job:
    case Needs::SeeJob:
      return Verb::Invoke;
    case Needs::Read:
      return Verb::Read;
    case Needs::Deploy:
    case Needs::Upload:
      return Verb::Deploy;
    case Needs::Data:
    case Needs::ReadData:
      return Verb::Data;
    case Needs::Configure:
      return Verb::Configure;
    case Needs::Secrets:
      return Verb::Secrets;
    case Needs::Metrics:
      return Verb::Metrics;
    case Needs::Admin:
    case Needs::Node:
      return Verb::Admin;
  }
  return Verb::Admin;
}

// By another verb than verb_for().
bool granted_otherwise(const Scopes& scopes, Needs needs, std::string_view function) {
  const bool read = needs == Needs::Describe || needs == Needs::ReadData || needs == Needs::SeeJob;
  const bool data = needs == Needs::Upload || needs == Needs::Job || needs == Needs::SeeJob;
  const bool trains = needs == Needs::Job || needs == Needs::SeeJob;
  return (read && granted(scopes, Verb::Read, function)) ||
         (trains && granted(scopes, Verb::Deploy, function)) ||
         (data && granted(scopes, Verb::Data, function));
}

// Of a node, not of a project.
bool concerns_node(Needs needs) { return needs == Needs::Node || needs == Needs::Metrics; }

}  // namespace

// A table; without a default, so that an endpoint without a line does not compile.
// NOLINTNEXTLINE(readability-function-size)
Needs needs_of(Endpoint endpoint) {
  switch (endpoint) {
    case Endpoint::ServerLive:
    case Endpoint::ServerReady:
      return Needs::Open;
    case Endpoint::Infer:
    case Endpoint::Invoke:
    case Endpoint::TfPredict:
    case Endpoint::Generate:
    case Endpoint::GenerateStream:
    case Endpoint::CancelEvent:
    case Endpoint::RedriveEvent:
    case Endpoint::RedeliverEvent:
    case Endpoint::SubmitJob:
    case Endpoint::RunSchedule:
    case Endpoint::AddClientMemory:
    case Endpoint::RemoveClientMemory:
      return Needs::Invoke;
    case Endpoint::CancelJob:
    case Endpoint::PauseJob:
    case Endpoint::ResumeJob:
      return Needs::Job;
    case Endpoint::ListJobs:
    case Endpoint::DescribeJob:
    case Endpoint::JobResultFile:
    case Endpoint::JobEvents:
      return Needs::SeeJob;
    case Endpoint::OpenApi:
    case Endpoint::ServerMetadata:
    case Endpoint::ModelMetadata:
    case Endpoint::ModelReady:
    case Endpoint::ModelConfig:
    case Endpoint::ListClientMemory:
    case Endpoint::CudaSharedMemory:
    case Endpoint::Logging:
    case Endpoint::Tracing:
    case Endpoint::TfModelStatus:
    case Endpoint::TfModelMetadata:
    case Endpoint::TfUnsupported:
    case Endpoint::ModelStatistics:
    case Endpoint::RepositoryIndex:
    case Endpoint::ListEvents:
    case Endpoint::EventReply:
    case Endpoint::EventState:
    case Endpoint::ListSchedules:
    case Endpoint::ShowSchedule:
      return Needs::Describe;
    case Endpoint::NodeStatus:
    case Endpoint::NodeTop:
    case Endpoint::ListFunctions:
    case Endpoint::DescribeFunction:
    case Endpoint::ListVersions:
    case Endpoint::DescribeVersion:
    case Endpoint::GetSettings:
    case Endpoint::History:
    case Endpoint::GetTraffic:
    case Endpoint::GetRollout:
    case Endpoint::FunctionLogs:
    case Endpoint::Usage:
    case Endpoint::ListSigningKeys:
      return Needs::Read;
    case Endpoint::Deploy:
    case Endpoint::CreateTraining:
    case Endpoint::ExportVersion:
    case Endpoint::VersionFile:
    case Endpoint::RepositoryLoad:
    case Endpoint::RepositoryUnload:
      return Needs::Deploy;
    case Endpoint::BlobState:
    case Endpoint::BlobUpload:
    case Endpoint::BlobAppend:
      return Needs::Upload;
    case Endpoint::CreateSnapshot:
    case Endpoint::EraseSnapshot:
      return Needs::Data;
    case Endpoint::ListDatasets:
    case Endpoint::DescribeDataset:
    case Endpoint::DescribeSnapshot:
      return Needs::ReadData;
    case Endpoint::DeleteFunction:
    case Endpoint::ChangeSettings:
    case Endpoint::SplitTraffic:
    case Endpoint::RollBack:
    case Endpoint::StartRollout:
    case Endpoint::ApproveRollout:
    case Endpoint::PauseRollout:
    case Endpoint::ResumeRollout:
    case Endpoint::AbortRollout:
    case Endpoint::MoveAlias:
    case Endpoint::RemoveAlias:
    case Endpoint::Evict:
    case Endpoint::CreateSchedule:
    case Endpoint::DeleteSchedule:
    case Endpoint::PauseSchedule:
    case Endpoint::ResumeSchedule:
      return Needs::Configure;
    case Endpoint::ListSecrets:
    case Endpoint::SetSecret:
    case Endpoint::DeleteSecret:
    case Endpoint::ShowWebhookKey:
    case Endpoint::RotateWebhookKey:
    case Endpoint::CreateSigningKey:
    case Endpoint::TrustSigningKey:
    case Endpoint::RevokeSigningKey:
      return Needs::Secrets;
    case Endpoint::Metrics:
      return Needs::Metrics;
    case Endpoint::CreateKey:
    case Endpoint::ListKeys:
    case Endpoint::RevokeKey:
    case Endpoint::ShowAudit:
      return Needs::Admin;
    case Endpoint::ListProjects:
    case Endpoint::CreateProject:
    case Endpoint::SetQuotas:
    case Endpoint::NodeDoctor:
    case Endpoint::CollectGarbage:
    case Endpoint::Backup:
      return Needs::Node;
  }
  return Needs::Node;
}

std::span<const RpcRule> rpc_rules() {
  static constexpr auto kRules = std::to_array<RpcRule>({
      {"ServerLive", Needs::Open},
      {"ServerReady", Needs::Open},
      {"ServerMetadata", Needs::Describe},
      {"ModelReady", Needs::Describe},
      {"ModelMetadata", Needs::Describe},
      {"ModelConfig", Needs::Describe},
      {"ModelStatistics", Needs::Describe},
      {"ModelInfer", Needs::Invoke},
      {"ModelStreamInfer", Needs::Invoke},
      {"RepositoryIndex", Needs::Describe},
      {"RepositoryModelLoad", Needs::Deploy, "load"},
      {"RepositoryModelUnload", Needs::Deploy, "unload"},
      {"SystemSharedMemoryStatus", Needs::Describe},
      {"SystemSharedMemoryRegister", Needs::Invoke},
      {"SystemSharedMemoryUnregister", Needs::Invoke},
      {"CudaSharedMemoryStatus", Needs::Describe},
      {"CudaSharedMemoryRegister", Needs::Describe},
      {"CudaSharedMemoryUnregister", Needs::Describe},
      {"TraceSetting", Needs::Describe},
      {"LogSettings", Needs::Describe},
  });
  return kRules;
}

const RpcRule* find_rpc_rule(std::string_view method) {
  const auto rules = rpc_rules();
  const auto found = std::ranges::find(rules, method, &RpcRule::method);
  return found == rules.end() ? nullptr : &*found;
}

// A table, too.
// NOLINTNEXTLINE(readability-function-size)
std::string_view action_of(Endpoint endpoint) {
  switch (endpoint) {
    case Endpoint::Deploy:
      return "deploy";
    case Endpoint::RepositoryLoad:
      return "load";
    case Endpoint::RepositoryUnload:
      return "unload";
    case Endpoint::DeleteFunction:
      return "delete";
    case Endpoint::ChangeSettings:
      return "configure";
    case Endpoint::SplitTraffic:
      return "traffic";
    case Endpoint::RollBack:
      return "rollback";
    case Endpoint::StartRollout:
      return "rollout.start";
    case Endpoint::ApproveRollout:
      return "rollout.approve";
    case Endpoint::PauseRollout:
      return "rollout.pause";
    case Endpoint::ResumeRollout:
      return "rollout.resume";
    case Endpoint::AbortRollout:
      return "rollout.abort";
    case Endpoint::MoveAlias:
      return "alias";
    case Endpoint::RemoveAlias:
      return "alias.remove";
    case Endpoint::Evict:
      return "evict";
    case Endpoint::CancelEvent:
      return "event.cancel";
    case Endpoint::RedriveEvent:
      return "event.redrive";
    case Endpoint::RedeliverEvent:
      return "event.redeliver";
    case Endpoint::SubmitJob:
      return "job.submit";
    case Endpoint::CancelJob:
      return "job.cancel";
    case Endpoint::PauseJob:
      return "job.pause";
    case Endpoint::ResumeJob:
      return "job.resume";
    case Endpoint::CreateTraining:
      return "train";
    case Endpoint::CreateSnapshot:
      return "data.put";
    case Endpoint::EraseSnapshot:
      return "data.erase";
    case Endpoint::CreateSchedule:
      return "schedule.create";
    case Endpoint::DeleteSchedule:
      return "schedule.delete";
    case Endpoint::PauseSchedule:
      return "schedule.pause";
    case Endpoint::ResumeSchedule:
      return "schedule.resume";
    case Endpoint::RunSchedule:
      return "schedule.run";
    case Endpoint::CreateKey:
      return "key.create";
    case Endpoint::RevokeKey:
      return "key.revoke";
    case Endpoint::SetSecret:
      return "secret.set";
    case Endpoint::DeleteSecret:
      return "secret.delete";
    case Endpoint::RotateWebhookKey:
      return "webhook.rotate";
    case Endpoint::CreateSigningKey:
      return "signing_key.create";
    case Endpoint::TrustSigningKey:
      return "signing_key.trust";
    case Endpoint::RevokeSigningKey:
      return "signing_key.revoke";
    case Endpoint::CreateProject:
      return "project.create";
    case Endpoint::SetQuotas:
      return "quota";
    case Endpoint::CollectGarbage:
      return "gc";
    case Endpoint::Backup:
      return "backup";
    default:
      return "";
  }
}

Status check_access(const Principal& caller, Needs needs, std::string_view function) {
  if (needs == Needs::Open || caller.means == Principal::Means::Nobody) return {};
  const bool here = !concerns_node(needs) || caller.project == kDefaultProject;
  if (here && (granted(caller.scopes, verb_for(needs), function) ||
               granted_otherwise(caller.scopes, needs, function))) {
    return {};
  }
  const std::string_view verb = to_string(verb_for(needs));
  const bool named = needs != Needs::Admin && needs != Needs::Secrets && !concerns_node(needs) &&
                     !function.empty();
  return refuse(reason::kMissingScope,
                fmt::format("this needs the scope {}{}{}{}", verb, named ? ":" : "",
                            named ? function.substr(0, 64) : "",
                            here ? "" : fmt::format(" of the project {}", kDefaultProject)));
}

bool may_see(const Principal& caller, std::string_view qualified) {
  if (project_of(qualified) != caller.project) return false;
  return check_access(caller, Needs::Describe, local_name(qualified)).has_value();
}

Result<std::string> admit(const Principal& caller, Needs needs, std::string_view name) {
  TRY(check_access(caller, needs, name.substr(0, name.find('@'))));
  if (name.contains('/')) {
    return refuse(reason::kBadRequest,
                  "a function's name holds no '/': the key says which project is meant");
  }
  return name.empty() ? std::string() : qualified_name(caller.project, name);
}

}  // namespace mayfly
