// Predictions that nobody waits for, over HTTP: accepted with 202 and a place to ask, listed, read,
// cancelled, tried again; and run, as the same request would have been while its client waited.
// docs/events.md. Loop thread.
#pragma once

#include <string>
#include <string_view>

#include "async/pool.h"
#include "async/task.h"
#include "base/bytes.h"
#include "core/settings.h"
#include "events/delivery_engine.h"
#include "events/event.h"
#include "events/event_engine.h"
#include "gateway/access.h"
#include "gateway/predictions.h"
#include "gateway/route.h"
#include "net/exchange.h"
#include "serving/body_budget.h"
#include "serving/catalog.h"

namespace mayfly {

// What tells of an accepted event, and where to ask: 202.
Response accepted_event(const WorkItem& item);
// All of an event but payload and key, by what its function's settings are now.
EventEngine::Submission event_submission(const EventRequest& request, std::string lane,
                                         const FunctionSettings& settings);

class EventApi {
 public:
  struct Parts {  // all outlive me
    EventEngine& engine;
    DeliveryEngine& deliveries;
    Catalog& catalog;
    Pool& parse_pool;
    BodyBudget& bodies;
    Bytes max_body;
  };

  explicit EventApi(Parts parts) : parts_(parts) {}

  // Whether the client asks for 202 instead of the reply (RFC 7240).
  static bool wanted(const RequestHead& head) {
    return head.headers.has_token("Prefer", "respond-async");
  }
  // Of a prediction's route.
  Task<Result<Response>> accept(Exchange& exchange, const Route& route);
  // The endpoints of events.
  Task<Result<Response>> call(Exchange& exchange, const Route& route);
  // What the engine runs.
  static Task<EventEngine::Attempted> run(Predictions& predictions, EventEngine::Attempt attempt);

 private:
  Task<Result<Response>> list(const Exchange& exchange, const Route& route);
  Task<Result<Response>> reply(WorkItem item);
  Task<Result<Response>> redrive(WorkItem item);
  Task<Result<Response>> state(WorkItem item);
  // not_found for whoever may not know of it.
  Task<Result<WorkItem>> find(const Route& route);
  Result<EventEngine::Submission> submission(const Exchange& exchange, const Route& route) const;

  Parts parts_;
};

}  // namespace mayfly
