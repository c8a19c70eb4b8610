#include "events/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "core/printable.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "events/cron.h"

namespace mayfly {
namespace {

constexpr std::array<std::string_view, 3> kKindWords = {"event", "batch", "run"};
constexpr std::array<std::string_view, 2> kMissedWords = {"one", "skip"};
constexpr std::array<std::string_view, 2> kOverlapWords = {"skip", "allow"};
constexpr std::array<std::string_view, kRunOutcomes> kOutcomeWords = {"accepted", "missed",
                                                                      "overlapping", "refused"};

}  // namespace

std::string_view to_string(MissedRuns missed) {
  return kMissedWords[static_cast<std::size_t>(missed)];
}

std::optional<MissedRuns> parse_missed_runs(std::string_view text) {
  for (const MissedRuns missed : {MissedRuns::One, MissedRuns::Skip}) {
    if (to_string(missed) == text) return missed;
  }
  return std::nullopt;
}

std::string_view to_string(ScheduleTarget::Kind kind) {
  return kKindWords[static_cast<std::size_t>(kind)];
}

std::string_view to_string(OverlappingRuns overlap) {
  return kOverlapWords[static_cast<std::size_t>(overlap)];
}

std::optional<OverlappingRuns> parse_overlapping_runs(std::string_view text) {
  for (const OverlappingRuns overlap : {OverlappingRuns::Skip, OverlappingRuns::Allow}) {
    if (to_string(overlap) == text) return overlap;
  }
  return std::nullopt;
}

std::string_view to_string(RunOutcome outcome) {
  return kOutcomeWords[static_cast<std::size_t>(outcome)];
}

// The dot (U+00B7) is none of the characters that keys of clients are made of.
std::string run_key(const Schedule& schedule) {
  return fmt::format("schedule·{}·{}", schedule.id,
                     schedule.next ? format_time(*schedule.next) : "");
}

// The layout of InvocationIds, with a hash where those have a counter and random bits.
InvocationId run_job_id(const Schedule& schedule) {
  using std::chrono::milliseconds;
  const Duration since = schedule.next ? schedule.next->time_since_epoch() : Duration::zero();
  const auto ms = static_cast<std::uint64_t>(std::chrono::floor<milliseconds>(since).count());
  InvocationId id;
  for (std::size_t i = 0; i < 6; ++i) id.bytes[i] = static_cast<std::byte>(ms >> (8 * (5 - i)));
  const Digest hash = sha256(run_key(schedule));
  std::copy_n(hash.bytes.begin(), 10, id.bytes.begin() + 6);
  id.bytes[6] = (id.bytes[6] & std::byte{0x0f}) | std::byte{0x70};
  id.bytes[8] = (id.bytes[8] & std::byte{0x3f}) | std::byte{0x80};
  return id;
}

std::string lane_of(const Schedule& schedule) {
  const std::string_view name = schedule.target.name;
  return qualified_name(schedule.project, name.substr(0, name.find('@')));
}

Result<WallTime> next_run(const Schedule& schedule, WallTime after) {
  const Cron cron = TRY(Cron::parse(schedule.cron));
  const TimeZone zone = TRY(TimeZone::find(schedule.timezone));
  if (const auto next = cron.next(zone, after)) return *next;
  return refuse(reason::kInvalidSetting,
                fmt::format("cron: '{}' never comes", printable(schedule.cron, 64)));
}

}  // namespace mayfly
