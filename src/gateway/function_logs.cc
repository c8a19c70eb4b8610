#include "gateway/function_logs.h"

#include <algorithm>
#include <utility>

#include "async/timer.h"

namespace mayfly {
namespace {

constexpr std::size_t kKeptLines = 1000;
constexpr std::size_t kMaxLine = 4096;
constexpr std::size_t kMaxFunctions =
    1000;  // with lines; a function that prints nothing costs nothing

std::string printable(std::string_view text) {
  std::string out(text.substr(0, kMaxLine));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < ' ' && c != '\t') c = '?';
    if (c == 127) c = '?';
  }
  return out;
}

}  // namespace

void FunctionLogs::add(std::string_view label, std::string_view text) {
  const std::string function(label.substr(0, label.find('@')));
  if (functions_.size() >= kMaxFunctions && !functions_.contains(function))
    functions_.erase(functions_.begin());
  Lines& lines = functions_[function];
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.kept.push_back({.sequence = lines.next++,
                          .time = loop_.clock().wall_now(),
                          .source = std::string(label),
                          .text = printable(text.substr(0, end))});
    if (lines.kept.size() > kKeptLines) lines.kept.pop_front();
    text.remove_prefix(std::min(end + 1, text.size()));
  }
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
  if (found != functions_.end()) functions_.erase(found);
}

}  // namespace mayfly
