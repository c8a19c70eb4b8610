// What functions call (ctx.call): each call is an invocation of its own, with its own record, as if
// its caller's project had asked over HTTP. It has what is left of its caller's time, his request
// id, Mayfly-Key and trace. It counts as his project's prediction; what bounds those who ask
// (concurrency, requests a second, the month) was asked of the outermost one. Loop thread.
#pragma once

#include <memory>

#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "base/bytes.h"
#include "core/wire/infer_request.h"
#include "core/wire/json_parser.h"
#include "dispatch/dispatcher.h"
#include "serving/body_budget.h"
#include "serving/call_origin.h"
#include "serving/invoker.h"

namespace mayfly {

class Callees {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Pool& parse_pool;
    Dispatcher& dispatcher;
    Invoker& invoker;
    BodyBudget& bodies;
  };
  struct Limits {
    Bytes max_body;
    Bytes max_reply;
  };
  // From now on I answer the dispatcher's calls.
  Callees(Parts parts, Limits limits);

  // When the dispatcher has drained: waits for the last records.
  Task<void> close() { co_await inside_.close(); }

 private:
  Task<void> serve(AskedCall asked, Gate::Hold hold);
  Invocation begin(std::shared_ptr<ServedOrigin> origin);
  Task<Result<PlacedCall>> attempt(const AskedCall& asked, Invocation& tried,
                                   BodyBudget::Hold& held);
  Task<Result<InferRequest>> decode(const CallMessage& message, const Serving& serving);
  Task<Result<RequestMemory>> place(const CallMessage& message, const InferRequest& request,
                                    const Serving& serving);
  Task<Result<PlacedCall>> encode(const InferRequest& request, const Serving& serving, Reply reply);

  Parts parts_;
  Limits limits_;
  JsonParser parser_;
  Gate inside_;
};

}  // namespace mayfly
