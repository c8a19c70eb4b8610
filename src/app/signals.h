// SIGTERM, SIGINT and SIGHUP as events on the loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "async/loop.h"
#include "async/watch.h"
#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

// Blocks the signals for every thread made later; to be created before any is. SIGPIPE is ignored.
// SIGHUP means "read your files again"; from a terminal that has gone away it means stop, as it
// does for every program that was started there.
class Signals {
 public:
  static Result<std::unique_ptr<Signals>> create(Loop& loop,
                                                 std::move_only_function<void()> on_stop);
  // Without one, SIGHUP does nothing.
  void on_reload(std::move_only_function<void()> reload) { on_reload_ = std::move(reload); }

 private:
  explicit Signals(Fd signals);
  void take(std::uint32_t number);

  Fd signals_;
  const bool had_terminal_;
  std::unique_ptr<Watch> watch_;
  std::move_only_function<void()> on_stop_;
  std::move_only_function<void()> on_reload_;
};

}  // namespace mayfly
