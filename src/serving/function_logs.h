// What the functions' own processes printed: the last lines of each function and of the node,
// bounded in number and bytes, and live followers. What was printed longest ago goes first. Lost
// when the node ends; the bytes are hostile and shown escaped.
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
  std::uint64_t sequence = 0;  // counted over all functions from 1: it outlives a forgotten one
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
    std::size_t bytes = 0;
  };
  using Functions = std::map<std::string, Lines, std::less<>>;
  void keep(Lines& lines, LogLine line);
  void drop_oldest(Lines& lines);
  void make_room(std::string_view in_favour_of);

  Loop& loop_;
  Functions functions_;  // none is empty
  std::size_t bytes_ = 0;
  std::uint64_t next_ = 1;
  std::vector<Promise<void>> followers_;
};

}  // namespace mayfly
