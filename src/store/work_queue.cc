#include "store/work_queue.h"

namespace mayfly {

std::string_view to_string(WorkState state) {
  switch (state) {
    case WorkState::Waiting:
      return "waiting";
    case WorkState::Leased:
      return "running";
    case WorkState::Done:
      return "done";
    case WorkState::Dead:
      return "dead";
    case WorkState::Cancelled:
      return "cancelled";
    case WorkState::Expired:
      return "expired";
  }
  return "waiting";
}

std::optional<WorkState> parse_work_state(std::string_view text) {
  for (std::uint8_t number = 0; number < kWorkStates; ++number) {
    const auto state = static_cast<WorkState>(number);
    if (to_string(state) == text) return state;
  }
  return std::nullopt;
}

}  // namespace mayfly
