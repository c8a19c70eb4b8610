// Schedules over HTTP: made, listed, paused, run out of turn. docs/schedules.md. Loop thread.
#pragma once

#include <string>

#include "async/task.h"
#include "core/json_reader.h"
#include "events/delivery_engine.h"
#include "events/schedule_engine.h"
#include "gateway/route.h"
#include "net/exchange.h"
#include "serving/catalog.h"

namespace mayfly {

class ScheduleApi {
 public:
  struct Parts {  // all outlive me
    ScheduleEngine& scheduler;
    EventEngine& engine;
    DeliveryEngine& deliveries;
    Catalog& catalog;
  };

  explicit ScheduleApi(Parts parts) : parts_(parts) {}

  // What /metrics shows of events and schedules.
  Task<std::string> metrics();
  // A new schedule's name becomes the route's.
  Task<Result<Response>> call(Exchange& exchange, Route& route);
  // The event of a run, but for payload and key.
  static EventEngine::Submission submission(const Catalog& catalog, const Schedule& schedule);

 private:
  Task<Result<Response>> create(Exchange& exchange, Route& route);
  Task<Result<Response>> list(const Route& route);
  Task<Result<Response>> show(const Route& route, Schedule schedule);
  Task<Result<Response>> run(Schedule schedule);
  // not_found for whoever may not know of it.
  Task<Result<Schedule>> find(const Route& route);
  Json describe(const Schedule& schedule) const;

  Parts parts_;
};

}  // namespace mayfly
