// What the functions' own processes printed: the last lines of each function, bounded in number and
// length, and live followers. Lost when the node ends; the bytes are hostile and shown escaped.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "async/cancel.h"
#include "async/event.h"
#include "async/loop.h"
#include "async/task.h"
#include "base/clock.h"

namespace mayfly {

struct LogLine {
  std::uint64_t sequence = 0;  // counted per function from 1
  WallTime time;
  std::string source;  // "fraud@7"
  std::string text;    // printable UTF-8 or ASCII; control characters are replaced
};

class FunctionLogs {
 public:
  explicit FunctionLogs(Loop& loop) : loop_(loop) {}  // outlives me

  // `label` is "fraud@7"; may hold several lines.
  void add(std::string_view label, std::string_view text);
  // Those after `sequence`; empty when there are none yet.
  std::vector<LogLine> since(std::string_view function, std::uint64_t sequence) const;
  // Ends when a line of any function was added, or with an error at the deadline or when cancelled.
  Task<Status> changed(TimePoint deadline, CancelToken cancel);
  void forget(std::string_view function);

 private:
  struct Lines {
    std::deque<LogLine> kept;
    std::uint64_t next = 1;
  };
  Loop& loop_;
  std::map<std::string, Lines, std::less<>> functions_;
  std::vector<Promise<void>> followers_;
};

}  // namespace mayfly
