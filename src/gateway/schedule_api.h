// Schedules over HTTP: made, listed, paused, run out of turn. docs/schedules.md. Loop thread.
#pragma once

#include <string>

#include "async/task.h"
#include "core/json_reader.h"
#include "events/delivery_engine.h"
#include "events/schedule_engine.h"
#include "gateway/job_api.h"
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
    JobApi& jobs;
    JobEngine& job_engine;
    Pool& parse_pool;
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
  // What a job's schedule is to submit would be taken now; its input is kept with it.
  Task<Result<Schedule>> keep(Schedule schedule, std::string payload);
  Task<Result<Response>> list(const Route& route);
  Task<Result<Response>> show(Schedule schedule);
  Task<Result<Response>> run(Schedule schedule);
  // not_found for whoever may not know of it.
  Task<Result<Schedule>> find(const Route& route);
  Json describe(const Schedule& schedule) const;

  Parts parts_;
};

}  // namespace mayfly
