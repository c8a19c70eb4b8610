// What each endpoint asks of its caller, and under which name its use stands in the audit log. One
// table, beside the routing table; pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "core/project.h"
#include "gateway/route.h"
#include "identity/principal.h"

namespace mayfly {

enum class Needs : std::uint8_t {
  Open,      // nothing, not even a key: health
  Invoke,    // invoke
  Describe,  // what a client of the function must know: invoke or read
  Read,
  Deploy,
  Upload,  // deploy or data: what is uploaded may become either
  Configure,
  Data,      // of a dataset
  ReadData,  // what is in one: data or read
  Job,       // invoke, data or deploy: what a job belongs to is known once it is found
  SeeJob,    // those or read: likewise
  Secrets,
  Metrics,
  Admin,  // keys of the caller's project, its audit log
  Node,   // admin of the project `default`: what concerns every project
};

Needs needs_of(Endpoint endpoint);
// "deploy"; empty: it changes nothing, and the audit log does not speak of it.
std::string_view action_of(Endpoint endpoint);

// The same two of a method of inference.GRPCInferenceService.
struct RpcRule {
  std::string_view method;
  Needs needs;
  std::string_view action = {};
};
std::span<const RpcRule> rpc_rules();
// nullptr: there is no such method.
const RpcRule* find_rpc_rule(std::string_view method);

// missing_scope, naming the one. `function` is empty where an endpoint names none: then a scope
// for any function will do, and the endpoint tells of no others.
Status check_access(const Principal& caller, Needs needs, std::string_view function);
// Whether the caller may see the function, which has a name as the node knows it.
bool may_see(const Principal& caller, std::string_view qualified);

// Both at once: "fraud@3", as a client wrote it → "team/fraud@3" if the caller may; an empty name
// stays empty. bad_request for a name with a '/'.
Result<std::string> admit(const Principal& caller, Needs needs, std::string_view name);

}  // namespace mayfly
