// One request and its reply, as a handler sees them. An interface because handlers are tested
// without sockets (net/testing/fake_exchange.h).
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "async/cancel.h"
#include "async/task.h"
#include "base/result.h"
#include "net/http.h"
#include "net/tls.h"

namespace mayfly {

// Lives until the handler's task has ended; used only by that task, one call at a time. An Error of
// any call means that the client is gone or broke the protocol (its code says which): the handler
// ends, and may still respond(), which then does no harm.
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual const RequestHead& head() const = 0;
  virtual std::string_view peer() const = 0;  // "127.0.0.1:51234", or "unix"
  // The client's verified certificate; null unless the server demands one. Good for the connection.
  virtual const PeerCertificate* peer_certificate() const { return nullptr; }
  // Cancelled when the client closes its side while the handler works. A reply may still be tried.
  virtual CancelToken disconnected() = 0;

  // Waits for some of the body and puts it, with chunking undone, into `into`, straight from the
  // socket where it can. 0 is the end. The first call tells a client that waits for it to continue.
  // Errors: InvalidArgument malformed; DeadlineExceeded the client stalls; Cancelled it is gone.
  virtual Task<Result<std::size_t>> read_some(std::span<std::byte> into) = 0;

  // All that is left of the body, if it has arrived already: small requests need not wait for it.
  virtual std::optional<std::string> take_body() { return std::nullopt; }

  // Sends the one reply; returns when the kernel has it all. A body that was not read is skipped,
  // or, when large, costs the client its connection.
  virtual Task<Status> respond(Response response) = 0;

  // Instead of respond(): a reply whose length is not known yet. Its body is what write() is given
  // until finish(). A handler that returns without finish() cuts the connection, so that the client
  // sees that the reply is incomplete.
  virtual Task<Status> start(int status, Headers headers) = 0;
  virtual Task<Status> write(std::string_view bytes) = 0;
  virtual Task<Status> finish() = 0;
};

using Handler = std::move_only_function<Task<void>(Exchange&)>;

}  // namespace mayfly
