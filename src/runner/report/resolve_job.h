// The request of a job that installs packages, from the server to the jail, and what it leaves:
// /work/environment, and /work/resolved.json, {"lock": "…"} or {"refused": "pip's own words"}.
//
// Packages without a wheel take turns of two jobs. The one that installs has connections and runs
// no code of a package: it leaves sources and what building them asks for in /work/fetched, and
// {"next": "build"}. The one that builds has no connections: it leaves a wheel, or what is still
// missing, in /work/built, and {"next": "install"}. Each finds what the others left in
// /source/fetched (the last) and /source/built/NUMBER (all of them).
//
// Packages of Debian come before all of that, with connections to its mirrors alone: /work/debian
// is how they look unpacked, with usr/ in it, and debian.json beside usr/ is found by whoever
// installs in /source/debian.json.
//
// The job has no network. It asks for a connection on its control socket, {"connect": {"host":
// "example.org", "port": 443}}, and is handed a connected socket, or an empty message with the
// reason why not; which hosts there are, the server decides.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly {

enum class ResolveStep : std::uint8_t { Install, Build, Debian };
std::string_view to_string(ResolveStep step);

struct ResolveJob {
  ResolveStep step = ResolveStep::Install;
  std::string index_url;  // where packages are looked up; empty: only wheels/ of the source
  std::string lock;       // what to install, exactly; empty: what the files lead to
  bool build = false;     // whether packages may be built from their sources
  std::vector<std::string> debian = {};  // names of packages, or name=version
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

// What to do next, or the lock, empty where nothing was asked for; what cannot be installed has
// reason invalid_model.
struct Resolved {
  std::optional<ResolveStep> next;
  std::string lock;
};
Result<Resolved> parse_resolved(std::string_view json);

}  // namespace mayfly
