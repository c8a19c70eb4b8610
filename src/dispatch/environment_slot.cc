#include "dispatch/environment_slot.h"

#include <ranges>
#include <unordered_set>

namespace mayfly {

bool may_prepare(const PrepareView& view) {
  if (view.tokens_used >= view.tokens || view.waiting > 0) return false;
  if (view.builds > 0 || view.preparing > 0) return false;
  if (view.memory_used + view.needed > view.memory) return false;
  return view.quota == Bytes{} || view.quota_used + view.needed <= view.quota;
}

std::string merged_imports(std::string_view first, std::string_view second, std::size_t most) {
  std::unordered_set<std::string_view> known;
  std::string merged;
  for (const std::string_view text : {first, second}) {
    for (const auto line : std::views::split(text, '\n')) {
      const std::string_view name(line.begin(), line.end());
      if (name.empty() || !known.insert(name).second) continue;
      if (merged.size() + name.size() + 1 > most) return merged;
      if (!merged.empty()) merged += '\n';
      merged += name;
    }
  }
  return merged;
}

}  // namespace mayfly
