// The request of a job that installs packages, from the server to the jail, and what it leaves:
// /work/environment, and /work/resolved.json, {"lock": "…"} or {"refused": "pip's own words"}.
//
// The job has no network. It asks for a connection on its control socket, {"connect": {"host":
// "example.org", "port": 443}}, and is handed a connected socket, or an empty message with the
// reason why not; which hosts there are, the server decides.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace mayfly {

struct ResolveJob {
  std::string index_url;  // where packages are looked up; empty: only wheels/ of the source
  std::string lock;       // what to install, exactly; empty: what the files lead to
  bool operator==(const ResolveJob&) const = default;
};
std::string to_json(const ResolveJob& job);
// nullopt: the request of another kind of job.
Result<std::optional<ResolveJob>> parse_resolve_job(std::string_view json);

struct ConnectRequest {
  std::string host;
  std::uint16_t port = 0;
};
// nullopt: another message.
std::optional<ConnectRequest> parse_connect_request(std::string_view message);

// The lock, empty where nothing was asked for; what cannot be installed has reason invalid_model.
Result<std::string> parse_resolved(std::string_view json);

}  // namespace mayfly
