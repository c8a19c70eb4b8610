// The workers of one training beside the first: processes that are forked from it, hold a part of
// its rows each, and do what it tells them, round by round. Their memory, their limits and their
// network are their jail's; with the first they end.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

// What a worker does in its own process. An Error ends it, and is told to the first.
struct WorkerDuties {
  std::function<Status(std::string_view tracker)> join;
  std::function<Status(std::string_view saved)> restore;
  std::function<Status(std::uint32_t round)> step;
};

class XgboostWorkers {
 public:
  // Forks the workers with ranks from 1 to `count` - 1. The process must not have begun threads
  // that they need: OpenMP's, above all. `duties` is called, and everything that it returns is used
  // and destroyed, in the worker's process.
  static Result<XgboostWorkers> fork(std::uint32_t count,
                                     const std::function<WorkerDuties(std::uint32_t rank)>& duties);
  XgboostWorkers(XgboostWorkers&& other) noexcept = default;
  XgboostWorkers& operator=(XgboostWorkers&&) = delete;
  ~XgboostWorkers();  // waits for them, having dismissed them

  // They begin with it; none waits for its end. An error when one is gone.
  Status join(std::string_view tracker);
  Status restore(std::string_view saved);
  Status step(std::uint32_t round);
  // They end when they have done what they were told.
  void dismiss();
  // They end now: they may wait for each other.
  void kill();
  // Of an error that came of what all do together: what a worker says that failed, if one did.
  Error cause_of(Error error);

 private:
  struct Worker {
    pid_t pid = -1;
    Fd socket;
  };
  XgboostWorkers() = default;
  Status tell(std::uint32_t kind, std::string_view bytes);

  std::vector<Worker> workers_;
};

}  // namespace mayfly
