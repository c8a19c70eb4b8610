#include "gateway/event_service.h"

#include <utility>

#include "store/local_blob_store.h"
#include "store/sqlite_work_queue.h"

namespace mayfly {

Result<EventStores> EventStores::open(const DataDir& data) {
  EventStores stores;
  stores.queue = TRY(SqliteWorkQueue::open(data.events_db()));
  stores.blobs = TRY(LocalBlobStore::open(data.events(), data.tmp()));
  stores.schedules = TRY(ScheduleStore::open(data.schedules_db()));
  return stores;
}

EventService::EventService(EventStores stores, const Parts& parts, EventEngine::Options options,
                           Bytes max_body)
    : stores_(std::move(stores)),
      store_(*stores_.queue, *stores_.blobs, parts.loop.clock(),
             [&schedules = *stores_.schedules](const Digest& blob) {
               return schedules.refers_to(blob);
             }),
      engine_({.loop = parts.loop,
               .store = store_,
               .rng = parts.rng,
               .ids = parts.ids,
               .ledger = parts.ledger,
               .run =
                   [&predictions = parts.predictions](EventEngine::Attempt attempt) {
                     return EventApi::run(predictions, std::move(attempt));
                   },
               .has_room = [&dispatcher =
                                parts.dispatcher] { return dispatcher.has_room_for_guests(); },
               .on_end = [this] { deliveries_.look(); }},
              options),
      webhooks_({.loop = parts.loop,
                 .events = engine_,
                 .catalog = parts.catalog,
                 .secrets = parts.secrets,
                 .client = parts.client},
                DeliveryEngine::Options().concurrency),
      deliveries_(
          {.loop = parts.loop,
           .deliveries = stores_.queue->deliveries(),
           .pool = engine_.pool(),
           .rng = parts.rng,
           .metrics = engine_.metrics(),
           .tell = [this](Delivery delivery) { return webhooks_.tell(std::move(delivery)); }},
          {}),
      api_({.engine = engine_,
            .deliveries = deliveries_,
            .catalog = parts.catalog,
            .parse_pool = parts.parse_pool,
            .bodies = parts.bodies,
            .max_body = max_body}),
      scheduler_({.loop = parts.loop,
                  .schedules = *stores_.schedules,
                  .events = store_,
                  .engine = engine_,
                  .ids = parts.ids,
                  .submission =
                      [&catalog = parts.catalog](const Schedule& schedule) {
                        return ScheduleApi::submission(catalog, schedule);
                      },
                  .jobs = parts.jobs.scheduled()}),
      schedule_api_({.scheduler = scheduler_,
                     .engine = engine_,
                     .deliveries = deliveries_,
                     .catalog = parts.catalog,
                     .jobs = parts.jobs.api(),
                     .job_engine = parts.jobs.engine(),
                     .parse_pool = parts.parse_pool}) {}

Status EventService::recover(Ledger& ledger) {
  TRY(engine_.recover(ledger));
  TRY(deliveries_.recover());
  return scheduler_.recover();
}

void EventService::start() {
  engine_.start();
  deliveries_.start();
  scheduler_.start();
}

void EventService::stop() {
  scheduler_.stop();
  engine_.stop();
  deliveries_.stop();
}

Task<void> EventService::close() {
  webhooks_.stop();
  co_await deliveries_.close();
  co_await scheduler_.close();
  co_await engine_.close();
}

}  // namespace mayfly
