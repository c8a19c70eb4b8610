// All that a node has of events, in the order of its making.
#pragma once

#include <memory>

#include "events/delivery_engine.h"
#include "events/event_engine.h"
#include "events/event_store.h"
#include "events/schedule_engine.h"
#include "events/schedule_store.h"
#include "gateway/event_api.h"
#include "gateway/job_service.h"
#include "gateway/schedule_api.h"
#include "gateway/webhook_sender.h"
#include "identity/secret_store.h"
#include "net/guarded_client.h"
#include "store/blob_store.h"
#include "store/data_dir.h"
#include "store/work_queue.h"

namespace mayfly {

// Where events are kept.
struct EventStores {
  static Result<EventStores> open(const DataDir& data);  // schedules too
  std::unique_ptr<WorkQueue> queue;
  std::unique_ptr<BlobStore> blobs;
  std::unique_ptr<ScheduleStore> schedules;
};

class EventService {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Rng& rng;
    InvocationIds& ids;
    LedgerWriter& ledger;
    Dispatcher& dispatcher;
    Catalog& catalog;
    Predictions& predictions;
    Pool& parse_pool;
    BodyBudget& bodies;
    JobService& jobs;
    SecretStore& secrets;
    GuardedClient& client;  // of webhooks alone: it ends with them
  };
  EventService(EventStores stores, const Parts& parts, EventEngine::Options options,
               Bytes max_body);

  EventApi& api() { return api_; }
  ScheduleApi& schedules() { return schedule_api_; }

  // Before anything else, once: what a killed server left is made whole. Blocks.
  Status recover(Ledger& ledger);
  void start();
  // Begins nothing more.
  void stop();
  // Ends what runs, as if it had not begun, and waits for it.
  Task<void> close();

 private:
  EventStores stores_;
  EventStore store_;
  EventEngine engine_;
  WebhookSender webhooks_;
  DeliveryEngine deliveries_;
  EventApi api_;
  ScheduleEngine scheduler_;
  ScheduleApi schedule_api_;
};

}  // namespace mayfly
