#include "events/telling.h"

#include <fmt/format.h>

namespace mayfly {
namespace {

constexpr std::size_t kLongestTellingError = 500;

}  // namespace

Deliveries::Finish after_telling(const Delivery& delivery, const Telling& telling,
                                 const TellingPatience& patience, WallTime now,
                                 std::uint64_t random) {
  Deliveries::Finish finish{.state = DeliveryState::Delivered,
                            .attempts = delivery.attempts + 1,
                            .when = now,
                            .error = telling.error.substr(0, kLongestTellingError)};
  if (telling.told == Told::CutOff) {
    finish.state = DeliveryState::Waiting;
    finish.attempts = delivery.attempts;
    finish.error = delivery.error;
  } else if (telling.told == Told::Refused) {
    finish.state = DeliveryState::GivenUp;
  } else if (telling.told == Told::Failed) {
    const Duration wait = wait_after(patience.retries, finish.attempts, random);
    const bool once_more =
        finish.attempts < patience.attempts && now + wait <= delivery.since + patience.longest;
    finish.state = once_more ? DeliveryState::Waiting : DeliveryState::GivenUp;
    if (once_more) finish.when = now + wait;
  }
  return finish;
}

}  // namespace mayfly
