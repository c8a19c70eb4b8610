// Watches the machine's memory, which others use too: dispatch knows only what it gave away. While
// little is left, idle processes end, least valuable first. Loop thread.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "async/loop.h"
#include "async/timer.h"
#include "base/bytes.h"
#include "base/result.h"
#include "dispatch/dispatcher.h"

namespace mayfly {

// What should be free and is not, by the text of /proc/meminfo: less than a twentieth of the memory
// is pressure, and twice that is wanted then. Nothing when the text cannot be read.
Bytes memory_shortage(std::string_view meminfo);

class MemoryWatch {
 public:
  // "Read /proc/meminfo"; a test has another one.
  using Source = std::function<Result<std::string>()>;

  MemoryWatch(Loop& loop, Dispatcher& dispatcher, Source source);  // both outlive me

 private:
  void look();

  Dispatcher& dispatcher_;
  Source source_;
  Timer timer_;
};

}  // namespace mayfly
