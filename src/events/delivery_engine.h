// Tells of the ends of events those whom their functions name, at least once each.
//
// What is to be told stands in the store from the transaction on in which the event ended
// (store/deliveries.h). It is leased here, a few at a time, projects in turn, and told by whoever
// knows how (Parts::tell); what becomes of it then is decided by telling.h. Who hangs takes one of
// the places of his project and his host, and no others wait for him but in his own queue.
//
// Loop thread; what blocks runs on the events' pool.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "async/timer.h"
#include "base/rng.h"
#include "events/event_metrics.h"
#include "events/telling.h"
#include "store/deliveries.h"

namespace mayfly {

class DeliveryEngine {
 public:
  using Tell = std::function<Task<Telling>(Delivery delivery)>;

  struct Parts {  // all outlive me
    Loop& loop;
    Deliveries& deliveries;
    Pool& pool;
    Rng& rng;
    EventMetrics& metrics;
    Tell tell;
  };
  struct Options {
    std::size_t concurrency = 8;
    std::size_t per_project = 4;
    std::size_t per_host = 2;
    TellingPatience patience{};
  };

  DeliveryEngine(Parts parts, Options options);

  // Before start(), once: what a killed server was sending is due again. Blocks.
  Status recover();
  void start();
  // Begins nothing more.
  void stop() { stopped_ = true; }
  // Waits for what is being told, which whoever tells should have cut short.
  Task<void> close();
  // Something may be due: an event has ended.
  void look() { look_.request(); }

  Task<Result<std::vector<Delivery>>> of(std::string event);
  // not_found, conflict.
  Task<Result<Delivery>> again(std::string event);
  Task<Result<std::uint64_t>> unsettled();

 private:
  void feed_soon();
  Task<void> feed();
  Task<std::size_t> lease_some();
  Task<void> arm();
  Task<void> deliver(Delivery delivery);
  Task<void> keep(const Delivery& delivery, const Telling& telling);
  WallTime now() const { return parts_.loop.clock().wall_now(); }

  Parts parts_;
  Options options_;
  Gate gate_;
  TurnEnd look_;
  Timer again_;
  std::string last_project_;
  std::size_t sending_ = 0;
  bool feeding_ = false;
  bool wanted_ = false;  // something ended while it was fed
  bool stopped_ = true;  // until start()
};

}  // namespace mayfly
