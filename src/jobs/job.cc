#include "jobs/job.h"

namespace mayfly {

std::string_view to_string(JobKind kind) {
  switch (kind) {
    case JobKind::Batch:
      return "batch";
    case JobKind::Run:
      return "run";
    case JobKind::Ingest:
      return "ingest";
    case JobKind::Train:
      return "train";
    case JobKind::Trial:
      return "trial";
    case JobKind::Score:
      return "score";
  }
  return "run";
}

std::string_view to_string(JobState state) {
  switch (state) {
    case JobState::Queued:
      return "queued";
    case JobState::Running:
      return "running";
    case JobState::Paused:
      return "paused";
    case JobState::Done:
      return "done";
    case JobState::Failed:
      return "failed";
    case JobState::Cancelled:
      return "cancelled";
    case JobState::Expired:
      return "expired";
  }
  return "queued";
}

std::optional<JobState> parse_job_state(std::string_view text) {
  for (std::uint8_t number = 0; number < kJobStates; ++number) {
    const auto state = static_cast<JobState>(number);
    if (to_string(state) == text) return state;
  }
  return std::nullopt;
}

}  // namespace mayfly
