#include "events/schedule.h"

#include <fmt/format.h>

#include <array>

#include "core/printable.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "events/cron.h"

namespace mayfly {
namespace {

constexpr std::array<std::string_view, 2> kMissedWords = {"one", "skip"};
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

std::string_view to_string(RunOutcome outcome) {
  return kOutcomeWords[static_cast<std::size_t>(outcome)];
}

// The dot (U+00B7) is none of the characters that keys of clients are made of.
std::string run_key(const Schedule& schedule) {
  return fmt::format("schedule·{}·{}", schedule.id,
                     schedule.next ? format_time(*schedule.next) : "");
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
