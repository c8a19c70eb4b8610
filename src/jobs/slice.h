// One slice of a job, as the engine asks for it. What a slice is depends on the kind of the job
// (batch_slice.h, run_slice.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "async/cancel.h"
#include "async/task.h"
#include "base/result.h"
#include "jobs/job.h"
#include "jobs/job_store.h"

namespace mayfly {

struct SliceAsk {
  const JobRecord& job;
  const std::vector<JobFile>& files;
  CancelToken due;   // its time is over: ends at a checkpoint that is further than it began
  CancelToken stop;  // ends at the next checkpoint, or without one
  CancelToken kill;  // ends now
  // Told on the loop thread.
  std::function<void(JobProgress)> on_progress;
  // Durable when it ends. conflict: the lease is lost, the slice is killed.
  std::function<Task<Status>(std::string checkpoint, std::vector<JobFile> files)> keep;
};

struct SliceOutcome {
  Result<JobStore::SliceResult> result;
  // Of an error: whether another slice may do better.
  bool retry = false;
  bool put_back = false;  // of an error: the platform's, which may pass
  Duration cpu{};
  Bytes memory{};                           // at most; 0: unknown
  std::uint64_t rows = 0, failed_rows = 0;  // of a batch, in the result
  Pin pin{};                                // holds the files
};

// What a slice took; 0: unknown.
struct SliceBill {
  WallTime began{};
  Duration ran{};
  Duration cpu{};
  Bytes memory{};      // at most
  std::string reason;  // why it failed
  bool billed = true;  // not what the platform ended
};

using RunSlice = std::function<Task<SliceOutcome>(SliceAsk)>;

}  // namespace mayfly
