// One gRPC call as its handler sees it. Loop thread, though the bytes move on a thread of gRPC's.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "async/cancel.h"
#include "async/task.h"
#include "base/clock.h"
#include "base/result.h"
#include "gateway/access.h"
#include "identity/principal.h"

namespace mayfly {

// Lives until the handler's task has ended; used only by that task and by tasks that it waits for.
// What the handler returns is the call's status: gRPC's code is the error's, its reason goes into
// the trailing metadata as mayfly-reason.
class Rpc {
 public:
  virtual ~Rpc() = default;

  // Who calls, and what the method asks of it; set by the gateway before any service sees the call.
  void identify(PrincipalRef caller, Needs needs) {
    caller_ = std::move(caller);
    needs_ = needs;
  }
  const PrincipalRef& caller() const { return caller_; }
  Needs needs() const { return needs_; }
  // What the call is about, for the audit log: said by the service that reads it from the message.
  void concern(std::string subject) { subject_ = std::move(subject); }
  const std::string& subject() const { return subject_; }

  virtual std::string_view method() const = 0;  // "/inference.GRPCInferenceService/ModelInfer"
  virtual std::string peer() const = 0;         // "127.0.0.1:51234", "unix": as over HTTP
  // The client's certificate as PEM, verified when its connection began; empty: it showed none.
  virtual std::string client_certificate() const = 0;
  // What the client sent beside its messages; the name in any case.
  virtual std::optional<std::string_view> metadata(std::string_view name) const = 0;
  // Until the client's deadline; nullopt: it set none.
  virtual std::optional<Duration> time_left() const = 0;
  // Cancelled when the client gave the call up, its deadline passed, or its connection is lost.
  virtual CancelToken cancelled() = 0;
  // Cancelled when the node begins to drain: what has no end of its own ends now.
  virtual CancelToken draining() = 0;

  // Metadata sent with the status. The value is printable ASCII.
  virtual void trail(std::string_view name, std::string_view value) = 0;
  // The client's next message; nullopt: there is none to come, or the node drains. One at a time.
  virtual Task<std::optional<grpc::ByteBuffer>> read() = 0;
  // False: the client is gone. One at a time.
  virtual Task<bool> write(grpc::ByteBuffer message) = 0;
  // The last message: it leaves with the status.
  virtual void reply(grpc::ByteBuffer message) = 0;

 private:
  PrincipalRef caller_;
  Needs needs_ = Needs::Node;
  std::string subject_;
};

}  // namespace mayfly
