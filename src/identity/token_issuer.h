// Whose tokens a node takes, and what their claims mean here. Pure.
//
//   {"issuers": [{
//     "issuer": "https://login.example/",          as "iss" has it, to the letter
//     "audience": "mayfly",                        what "aud" must have
//     "jwks": "https://login.example/keys",        or an absolute path: the issuer's public keys
//     "ca": "/etc/mayfly/login-ca.pem",            who vouches for https; default: the system
//     "project": "team",                           or "project_claim": which claim names it
//     "scopes": "invoke:*",                        or "scopes_claim": which claim lists them
//     "roles": {"ml-admin": "deploy:*,admin"},     what values of scopes_claim mean; without it
//                                                  they are scopes themselves
//     "name": "login"                              in records, after the caller's "sub"
//   }]}
//
// A claim is its name, or where it lies: "/realm_access/roles" (RFC 6901).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/json_reader.h"
#include "identity/principal.h"

namespace mayfly {

struct TokenIssuer {
  std::string issuer;
  std::string audience;
  std::string jwks;
  Path ca;
  std::string name;
  // One of each two is set.
  std::string project;
  std::string project_claim;
  std::string scopes;
  std::string scopes_claim;
  std::map<std::string, Scopes, std::less<>> roles;

  bool has_url() const { return jwks.starts_with("https://"); }
};

// invalid_setting, naming what is wrong: an unknown member, a scope that is none, two issuers with
// one name.
Result<std::vector<TokenIssuer>> parse_issuers(std::string_view json);

// Who the claims of a verified token speak of. unauthenticated: no "sub", or no project.
//
// Values that mean no scope give none. The project `default` speaks for the node, so `admin` and
// `metrics` of it come from the mapping alone: "project" itself must say default, and "scopes" or a
// role the scope.
Result<PrincipalRef> principal_of(const TokenIssuer& issuer, const Json& claims);

}  // namespace mayfly
