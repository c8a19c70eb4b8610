// Tells one end of an event: a signed request to a URL, or an event of another function. Loop
// thread; requests are sent by threads of their own, so that who hangs holds up nothing else.
#pragma once

#include <cstddef>
#include <string>

#include "async/pool.h"
#include "async/task.h"
#include "core/destination.h"
#include "events/event_engine.h"
#include "events/telling.h"
#include "identity/secret_store.h"
#include "net/guarded_client.h"
#include "serving/catalog.h"

namespace mayfly {

class WebhookSender {
 public:
  // Deliveries that lead to each other through functions: a loop of them ends here.
  static constexpr std::uint32_t kMostDepth = 8;

  struct Parts {  // all outlive me
    Loop& loop;
    EventEngine& events;
    const Catalog& catalog;
    SecretStore& secrets;
    GuardedClient& client;
  };
  WebhookSender(Parts parts, std::size_t threads);

  Task<Telling> tell(Delivery delivery);
  // What is being sent ends within moments.
  void stop() { parts_.client.stop(); }

 private:
  Task<Telling> tell_function(Delivery delivery, WorkItem item, std::string function,
                              std::string letter);
  Task<Telling> post(Delivery delivery, WebUrl url, std::string letter);

  Parts parts_;
  Pool pool_;
};

}  // namespace mayfly
