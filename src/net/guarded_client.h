// The one door by which requests leave that users of the node asked for. Whoever writes a URL into
// a setting can make the node knock there, so:
//
//   where     EgressPolicy: https on the internet, and what the operator allows
//   pinned    the name is resolved once; what was checked is what is connected to, while Host, SNI
//             and certificate are still the name's
//   once      no redirect is followed, nothing is tried again, no connection is kept, and no proxy
//             of the environment is asked
//   bounded   in time, all together but for the system's resolver, and in bytes of the reply
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "base/tcp.h"
#include "core/web_url.h"
#include "net/egress_policy.h"
#include "net/http.h"
#include "net/tls.h"

namespace mayfly {

class HttpClient;

class GuardedClient {
 public:
  // What the machine knows; tests say it themselves.
  struct World {
    std::function<Result<std::vector<SocketAddress>>(const std::string& host, std::uint16_t port)>
        resolve;
    std::function<Result<std::vector<IpAddress>>()> own_addresses;
  };
  static World this_machine();

  // `ca`: a PEM file with authorities that are trusted besides the system's; empty: none.
  // invalid_setting where it cannot be read.
  static Result<std::unique_ptr<GuardedClient>> create(EgressPolicy policy, const Path& ca,
                                                       World world = this_machine());

  struct Request {
    std::string method = "GET";
    WebUrl url;
    Headers headers = {};  // but Host
    std::string body = {};
    Duration patience = std::chrono::seconds(10);
    Bytes most = kib(64);  // of the reply's body
  };
  struct Reply {
    int status = 0;
    Headers headers;
    std::string body;
    bool whole = true;  // false: it was longer than `most`, or broke off
  };
  // A reply of any status is a value, also one that broke off after its head. PermissionDenied: the
  // policy forbids it, and nothing was sent. Otherwise HttpClient's errors. Blocks; any thread.
  Result<Reply> send(const Request& request) const;

  // A reply of any length, piece by piece.
  struct Download {
    WebUrl url;
    Headers headers = {};                       // but Host
    Duration stall = std::chrono::seconds(30);  // without one byte
    Duration patience = std::chrono::hours(1);  // all together
    // Told before the first piece; pieces of 2xx replies only. An Error of either ends it with
    // that.
    std::function<Status(int status, const Headers& headers)> on_head = {};
    std::function<Status(std::string_view)> take = {};
  };
  // As send(); the reply's body is empty. One that broke off after its head is not `whole`.
  Result<Reply> download(const Download& request) const;

  const EgressPolicy& policy() const { return policy_; }
  // What is under way ends within moments, and nothing begins.
  void stop() { stopped_ = true; }

 private:
  GuardedClient(EgressPolicy policy, TlsContext trust, World world)
      : policy_(std::move(policy)), trust_(std::move(trust)), world_(std::move(world)) {}
  struct Bounds {
    Duration stall;
    Duration patience;
    Bytes most;
  };
  Result<std::unique_ptr<HttpClient>> client_for(const WebUrl& url, const Bounds& bounds) const;
  Result<std::vector<SocketAddress>> places_of(const WebUrl& url) const;

  EgressPolicy policy_;
  TlsContext trust_;
  World world_;
  std::atomic<bool> stopped_ = false;
};

}  // namespace mayfly
