#include "gateway/access.h"

#include <set>
#include <string>

#include "core/caller_reason.h"
#include "core/names.h"
#include "core/reason.h"
#include "gateway/route.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

Principal key(const char* project, const char* scopes) {
  return {.means = Principal::Means::Key,
          .project = project,
          .name = "k",
          .scopes = Scopes::parse(scopes).value()};
}

}  // namespace

TEST_CASE("only health is open: every other endpoint asks for a scope") {
  const Principal nothing{
      .means = Principal::Means::Key, .project = "default", .name = {}, .scopes = {}};
  int open = 0;
  for (const Endpoint endpoint : routed_endpoints()) {
    CAPTURE(static_cast<int>(endpoint));
    const bool is_health = endpoint == Endpoint::ServerLive || endpoint == Endpoint::ServerReady;
    const Status allowed = check_access(nothing, needs_of(endpoint), "");
    CHECK(allowed.has_value() == is_health);
    if (!allowed) CHECK(allowed.error().reason == reason::kMissingScope);
    open += is_health ? 1 : 0;
  }
  CHECK(open == 2);
}

TEST_CASE("over gRPC, too, only health is open, and what changes something is an action") {
  int open = 0;
  for (const RpcRule& rule : rpc_rules()) {
    CAPTURE(rule.method);
    const bool is_health = rule.method == "ServerLive" || rule.method == "ServerReady";
    CHECK((rule.needs == Needs::Open) == is_health);
    CHECK(rule.action.empty() == (rule.needs != Needs::Deploy && rule.needs != Needs::Configure));
    CHECK(find_rpc_rule(rule.method) == &rule);
    open += is_health ? 1 : 0;
  }
  CHECK(open == 2);
  CHECK(find_rpc_rule("ModelInfers") == nullptr);
  CHECK(find_rpc_rule("") == nullptr);
}

TEST_CASE("what changes something stands in the audit log, what shows something does not") {
  // Predictions, what belongs to them, and the bytes of a deploy.
  const std::set<Endpoint> not_control = {Endpoint::Infer,
                                          Endpoint::Invoke,
                                          Endpoint::TfPredict,
                                          Endpoint::Generate,
                                          Endpoint::GenerateStream,
                                          Endpoint::TfUnsupported,
                                          Endpoint::AddClientMemory,
                                          Endpoint::BlobUpload,
                                          Endpoint::RemoveClientMemory,
                                          Endpoint::BlobAppend,
                                          Endpoint::Logging,
                                          Endpoint::Tracing,
                                          Endpoint::CudaSharedMemory,
                                          Endpoint::RepositoryIndex};
  for (const std::string& pattern : route_patterns()) {
    CAPTURE(pattern);
    const std::size_t space = pattern.find(' ');
    const std::string method = pattern.substr(0, space);
    const auto found = find_route(method, pattern.substr(space + 1));
    REQUIRE(found.route.has_value());
    const Endpoint endpoint = found.route->endpoint;
    const bool asks = method == "GET" || method == "HEAD";
    CHECK(action_of(endpoint).empty() == (asks || not_control.contains(endpoint)));
  }
}

TEST_CASE("a scope is checked for the function that is meant, and a refusal names it") {
  const Principal caller = key("default", "invoke:fraud,configure:*");
  CHECK(check_access(caller, Needs::Invoke, "fraud").has_value());
  CHECK(check_access(caller, Needs::Describe, "fraud").has_value());
  const Status refused = check_access(caller, Needs::Invoke, "iris");
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().message == "this needs the scope invoke:iris");
  CHECK_FALSE(check_access(caller, Needs::Read, "fraud").has_value());
  CHECK(check_access(caller, Needs::Configure, "iris").has_value());
  CHECK_FALSE(check_access(caller, Needs::Admin, "").has_value());
  CHECK(check_access(key("default", "read:*"), Needs::Describe, "iris").has_value());
}

TEST_CASE("data lets upload, put and erase what it names, read only shows it, and invoke neither") {
  const Principal caller = key("default", "data:credit");
  CHECK(check_access(caller, Needs::Data, "credit").has_value());
  CHECK(check_access(caller, Needs::ReadData, "credit").has_value());
  CHECK(check_access(caller, Needs::Upload, "").has_value());
  CHECK(check_access(caller, Needs::SeeJob, "").has_value());
  CHECK_FALSE(check_access(caller, Needs::Data, "other").has_value());
  CHECK_FALSE(check_access(caller, Needs::Deploy, "credit").has_value());
  CHECK_FALSE(check_access(caller, Needs::Invoke, "credit").has_value());
  const Principal reader = key("default", "read:credit");
  CHECK(check_access(reader, Needs::ReadData, "credit").has_value());
  CHECK_FALSE(check_access(reader, Needs::Data, "credit").has_value());
  CHECK_FALSE(check_access(reader, Needs::Upload, "").has_value());
  CHECK_FALSE(check_access(key("default", "invoke:*"), Needs::ReadData, "credit").has_value());
  CHECK(check_access(key("default", "deploy:*"), Needs::Upload, "").has_value());
}

TEST_CASE("what concerns every project is for the project default only") {
  for (const Needs needs : {Needs::Node, Needs::Metrics}) {
    CHECK(check_access(key("default", "admin,metrics"), needs, "").has_value());
    CHECK_FALSE(check_access(key("team", "admin,metrics"), needs, "").has_value());
  }
  CHECK(check_access(key("team", "admin"), Needs::Admin, "").has_value());
}

TEST_CASE("a caller's names are of its project, and it cannot name another's") {
  const Principal team = key("team", "invoke:*");
  CHECK(admit(team, Needs::Invoke, "fraud@3").value() == "team/fraud@3");
  CHECK(admit(team, Needs::Invoke, "").value().empty());
  CHECK(admit(key("default", "invoke:*"), Needs::Invoke, "fraud").value() == "fraud");
  for (const char* name : {"team/fraud", "other/fraud", "default/fraud", "/fraud"}) {
    CHECK(admit(key("default", "invoke:*"), Needs::Invoke, name).error().reason ==
          reason::kBadRequest);
  }
  CHECK(may_see(team, "team/fraud"));
  CHECK_FALSE(may_see(team, "fraud"));
  CHECK_FALSE(may_see(team, "team2/fraud"));
  CHECK_FALSE(may_see(key("team", "invoke:iris"), "team/fraud"));
}

TEST_CASE("the project is taken off what a caller reads") {
  CHECK(without_project("team", "function 'team/fraud' (team/fraud@2)") ==
        "function 'fraud' (fraud@2)");
  CHECK(without_project("team", "steam/fraud my-team/x a/team/x") ==
        "steam/fraud my-team/x a/team/x");
  CHECK(without_project("default", "a/b") == "a/b");
}
