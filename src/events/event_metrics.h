// What /metrics shows of events and schedules. Loop thread only.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "events/schedule.h"
#include "events/telling.h"
#include "events/verdict.h"
#include "store/work_queue.h"

namespace mayfly {

class EventMetrics {
 public:
  EventMetrics();
  ~EventMetrics();

  // An attempt has ended; nullopt: what it came to could not be kept, or counts no longer.
  void attempt(std::optional<Verdict> verdict);
  // An event has ended by its own doing: done or dead, so long after it was accepted.
  void ended(WorkState state, Duration after);

  // An attempt to tell of an end has gone so, and the delivery is now that.
  void told(Told told, DeliveryState state);

  struct Gauges {
    std::optional<WorkQueue::Overview> queue;  // nullopt: it cannot be read now
    std::array<std::uint64_t, kRunOutcomes> schedule_runs{};
    std::optional<std::uint64_t> deliveries{};  // that are not over; nullopt: as of `queue`
    WallTime now{};
  };
  // The text of our families (Prometheus text format 0.0.4).
  std::string expose(const Gauges& gauges);

 private:
  struct EventFamilies;
  std::unique_ptr<EventFamilies> families_;
};

}  // namespace mayfly
