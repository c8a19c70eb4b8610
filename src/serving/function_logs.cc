#include "serving/function_logs.h"

#include <algorithm>
#include <utility>

#include "async/timer.h"
#include "core/printable.h"

namespace mayfly {
namespace {

constexpr std::size_t kKeptLines = 1000;
constexpr std::size_t kMaxLine = 4096;
constexpr std::size_t kFunctionBytes = 1 << 20;
constexpr std::size_t kNodeBytes = 64 << 20;

std::size_t cost_of(const LogLine& line) {
  return sizeof(LogLine) + line.source.size() + line.text.size();
}

}  // namespace

void FunctionLogs::drop_oldest(Lines& lines) {
  const std::size_t bytes = cost_of(lines.kept.front());
  lines.bytes -= bytes;
  bytes_ -= bytes;
  lines.kept.pop_front();
}

void FunctionLogs::keep(Lines& lines, LogLine line) {
  lines.bytes += cost_of(line);
  bytes_ += cost_of(line);
  lines.kept.push_back(std::move(line));
  while (lines.kept.size() > kKeptLines || lines.bytes > kFunctionBytes) drop_oldest(lines);
}

// The function that was silent longest loses its lines. A scan, but only of a node whose functions
// print more than its budget.
void FunctionLogs::make_room(std::string_view in_favour_of) {
  while (bytes_ > kNodeBytes) {
    auto victim = functions_.end();
    for (auto next = functions_.begin(); next != functions_.end(); ++next) {
      if (next->first == in_favour_of) continue;
      const bool older = victim == functions_.end() ||
                         next->second.kept.back().sequence < victim->second.kept.back().sequence;
      if (older) victim = next;
    }
    if (victim == functions_.end()) return;
    bytes_ -= victim->second.bytes;
    functions_.erase(victim);
  }
}

void FunctionLogs::add(std::string_view label, std::string_view text) {
  if (text.empty()) return;
  const std::string function(label.substr(0, label.find('@')));
  Lines& lines = functions_[function];
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    keep(lines, {.sequence = next_++,
                 .time = loop_.clock().wall_now(),
                 .source = std::string(label),
                 .text = printable(text.substr(0, end), kMaxLine)});
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  make_room(function);
  for (Promise<void>& follower : std::exchange(followers_, {})) follower.set();
}

std::vector<LogLine> FunctionLogs::since(std::string_view function, std::uint64_t sequence) const {
  const auto found = functions_.find(function);
  if (found == functions_.end()) return {};
  const auto& kept = found->second.kept;
  const auto first =
      std::ranges::find_if(kept, [&](const LogLine& line) { return line.sequence > sequence; });
  return {first, kept.end()};
}

Task<Status> FunctionLogs::changed(TimePoint deadline, CancelToken cancel) {
  Future<void> change(loop_);
  std::erase_if(followers_, [](const Promise<void>& promise) { return !promise.wanted(); });
  followers_.push_back(change.promise());
  Timer timer(loop_, [&] { change.cancel(Error{Code::DeadlineExceeded, "no new line"}); });
  timer.arm(deadline);
  CancelCallback stop(cancel,
                      [&] { change.cancel(Error{Code::Cancelled, "the follower is gone"}); });
  co_return co_await change;
}

void FunctionLogs::forget(std::string_view function) {
  const auto found = functions_.find(function);
  if (found == functions_.end()) return;
  bytes_ -= found->second.bytes;
  functions_.erase(found);
}

}  // namespace mayfly
