// The gRPC transport: calls of any method, as bytes. gRPC owns the connections and moves the bytes
// on a thread of its own, which sleeps while there are none; each event is posted to the loop,
// where a handler serves the call as a coroutine.
//
//   gRPC's thread: completion queue → post        loop: handler, which starts reads and writes
//
// Messages beyond the limits are refused by gRPC before they are whole (RESOURCE_EXHAUSTED), and
// compressed ones outright: they would be unpacked before anybody has looked at their size.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "async/gate.h"
#include "async/loop.h"
#include "async/task.h"
#include "base/bytes.h"
#include "base/result.h"
#include "grpc/rpc.h"
#include "grpc/rpc_tls.h"

namespace mayfly {

struct RpcLimits {
  Bytes max_message = mib(64);  // that is received
  Bytes max_reply = mib(64);
  Bytes memory = gib(1);             // of what gRPC holds of all calls
  std::uint32_t max_calls = 10'000;  // at the same time; the next one gets node_busy
};

// "127.0.0.1:8081", "[::1]:0", "unix:/path".
struct RpcAddress {
  std::string text;
  std::shared_ptr<RpcTls> tls;  // null: clear text
};

using RpcHandler = std::function<Task<Status>(Rpc&)>;

class RpcServer {
 public:
  // `loop` and what the handler uses outlive the server. An error names the address.
  static Result<std::unique_ptr<RpcServer>> listen(Loop& loop, const RpcAddress& address,
                                                   const RpcLimits& limits, RpcHandler handler);
  // After close(), or when no call was ever taken.
  ~RpcServer();
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  int port() const;  // the one that was picked where 0 was asked for; 1 for unix:
  std::size_t calls() const;

  // Takes no new calls, ends streams that wait for their client, and waits for the others, at most
  // until `timeout`; then they are cancelled. Once.
  Task<void> close(Duration timeout);

 private:
  class Impl;
  explicit RpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mayfly
