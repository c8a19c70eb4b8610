#include "serving/guest.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kGuestIdleTimeout = 10s;
constexpr Duration kGuestTemplateTimeout = 1min;
// Dispatch gets no more events at a time than may run; of shadows, one.
constexpr std::uint32_t kEventQueue = 1000;

// The registry's numbers are far below.
std::uint64_t bit_of(GuestKind kind) { return 1ULL << (kind == GuestKind::Shadow ? 63U : 62U); }

std::shared_ptr<const FunctionSettings> settings_with(std::uint32_t queue_limit) {
  return std::make_shared<const FunctionSettings>(
      FunctionSettings{.idle_timeout = kGuestIdleTimeout,
                       .template_timeout = kGuestTemplateTimeout,
                       .queue_limit = queue_limit});
}

}  // namespace

FunctionId guest_id(FunctionId function, GuestKind kind) { return {function.value | bit_of(kind)}; }

std::shared_ptr<const VersionRuntime> guest_of(const VersionRuntime& version, GuestKind kind) {
  auto guest = std::make_shared<VersionRuntime>(version);
  guest->key.function = guest_id(version.key.function, kind);
  guest->label += kind == GuestKind::Shadow ? "-shadow" : "-event";
  guest->rank = Rank::Guest;
  guest->environment_key.clear();  // which is for those that somebody waits for
  guest->batching = {};            // they come one at a time
  return guest;
}

std::shared_ptr<const FunctionSettings> guest_settings(GuestKind kind) {
  static const auto kOfShadows = settings_with(1);
  static const auto kOfEvents = settings_with(kEventQueue);
  return kind == GuestKind::Shadow ? kOfShadows : kOfEvents;
}

}  // namespace mayfly
