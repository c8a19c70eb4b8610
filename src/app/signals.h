// SIGTERM and SIGINT as events on the loop.
#pragma once

#include <functional>
#include <memory>

#include "async/loop.h"
#include "async/watch.h"
#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

// Blocks both signals for every thread made later; to be created before any is. SIGPIPE is ignored.
class StopSignals {
 public:
  static Result<std::unique_ptr<StopSignals>> create(Loop& loop,
                                                     std::move_only_function<void()> on_stop);

 private:
  explicit StopSignals(Fd signals) : signals_(std::move(signals)) {}
  Fd signals_;
  std::unique_ptr<Watch> watch_;
  std::move_only_function<void()> on_stop_;
};

}  // namespace mayfly
