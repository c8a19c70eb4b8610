#include "events/delivery_engine.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "core/project.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kLookForPlaces = 1s;

}  // namespace

DeliveryEngine::DeliveryEngine(Parts parts, Options options)
    : parts_(std::move(parts)),
      options_(options),
      gate_(parts_.loop),
      look_(parts_.loop, [this] { feed_soon(); }),
      again_(parts_.loop, [this] { feed_soon(); }) {}

Status DeliveryEngine::recover() { return parts_.deliveries.recover(now()); }

void DeliveryEngine::start() {
  stopped_ = false;
  look();
}

Task<void> DeliveryEngine::close() {
  stopped_ = true;
  again_.cancel();
  co_await gate_.close();
}

Task<Result<std::vector<Delivery>>> DeliveryEngine::of(std::string event) {
  co_return co_await parts_.pool.run([&] { return parts_.deliveries.of(event); });
}

Task<Result<Delivery>> DeliveryEngine::again(std::string event) {
  CO_TRY(Delivery delivery,
         co_await parts_.pool.run([&] { return parts_.deliveries.again(event, now()); }));
  look();
  co_return delivery;
}

Task<Result<std::uint64_t>> DeliveryEngine::unsettled() {
  co_return co_await parts_.pool.run([&] { return parts_.deliveries.unsettled(); });
}

void DeliveryEngine::feed_soon() {
  wanted_ = true;
  if (feeding_ || stopped_ || gate_.closed()) return;
  feeding_ = true;
  parts_.loop.spawn(feed());
}

Task<void> DeliveryEngine::feed() {
  const auto hold = gate_.hold();
  while (std::exchange(wanted_, false) && !stopped_) {
    std::size_t leased = 1;
    while (leased > 0 && sending_ < options_.concurrency && !stopped_)
      leased = co_await lease_some();
  }
  if (!stopped_) co_await arm();
  feeding_ = false;
  if (wanted_) look();
}

Task<std::size_t> DeliveryEngine::lease_some() {
  const Deliveries::LeaseAsk ask{.now = now(),
                                 .count = options_.concurrency - sending_,
                                 .per_project = options_.per_project,
                                 .per_host = options_.per_host,
                                 .after_project = last_project_};
  auto leased = co_await parts_.pool.run([&] { return parts_.deliveries.lease(ask); });
  if (!leased) {
    LOG(error, "nobody can be told of events", {"error", leased.error().message});
    co_return 0;
  }
  for (Delivery& delivery : *leased) {
    last_project_ = project_of(delivery.lane);
    ++sending_;
    parts_.loop.spawn(deliver(std::move(delivery)));
  }
  co_return leased->size();
}

// For when the next one is due. Behind what is due and finds no place something else may become so.
Task<void> DeliveryEngine::arm() {
  const auto due = co_await parts_.pool.run([&] { return parts_.deliveries.next_due(); });
  if (stopped_ || (due && !*due)) co_return;
  const Duration wait = due ? **due - now() : Duration::zero();
  again_.arm_in(wait > Duration::zero() ? std::min<Duration>(wait, 1min) : kLookForPlaces);
}

Task<void> DeliveryEngine::deliver(Delivery delivery) {
  const auto hold = gate_.hold();
  Telling telling{.told = Told::CutOff, .error = ""};
  if (!stopped_) telling = co_await parts_.tell(delivery);
  if (telling.told == Told::Settled) {
    parts_.metrics.told(telling.told, DeliveryState::Delivered);
  } else {
    co_await keep(delivery, telling);
  }
  --sending_;
  look();
}

// What cannot be kept is sent once more after the next start.
Task<void> DeliveryEngine::keep(const Delivery& delivery, const Telling& telling) {
  const Deliveries::Finish finish =
      after_telling(delivery, telling, options_.patience, now(), parts_.rng.next());
  const Status kept =
      co_await parts_.pool.run([&] { return parts_.deliveries.finish(delivery.key, finish); });
  if (!kept) {
    LOG(error, "what became of a delivery cannot be kept", {"delivery", to_string(delivery.key)},
        {"error", kept.error().message});
  }
  parts_.metrics.told(telling.told, finish.state);
  if (finish.state == DeliveryState::GivenUp) {
    LOG(warn, "nobody is told of an event's end", {"delivery", to_string(delivery.key)},
        {"attempts", finish.attempts}, {"error", finish.error});
  }
}

}  // namespace mayfly
