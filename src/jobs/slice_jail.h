// The jail of one slice, and what passes through its wall. Loop thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "async/timer.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"
#include "jobs/slice.h"
#include "sandbox/job.h"
#include "store/blob_store.h"

namespace mayfly {

struct SliceParts {  // all outlive the slices
  Loop& loop;
  Pool& pool;
  JobRunner& jobs;
  JobStore& store;
  const BlobStore& blobs;                     // the store's
  Path tmp;                                   // on its file system
  Duration patience = std::chrono::hours(1);  // without a checkpoint
};

// Of a fit that its library may not interrupt: it has as long as its job.
inline constexpr Duration kUninterrupted = std::chrono::days(3650);

// "fraud@3": its lines are among those of the function, told by the job's id.
std::string label_of(const JobRecord& job);

class SliceJail {
 public:
  SliceJail(Loop& loop, JobRunner& jobs) : loop_(loop), jobs_(jobs) {}  // both outlive me

  // Runs it to its end. `kill` kills it; at `stop` it is told `stop_message`, at `due` likewise;
  // and it is killed when it has not been heard of for spec.timeout: hear() is. Messages come on
  // the loop thread. An Error when the jail could not be made; how the job ended says
  // failure_of_slice.
  struct Orders {
    CancelToken stop, kill;
    std::string stop_message;
    CancelToken due{};
    std::string due_message{};
  };
  Task<Result<JobEnd>> run(JobSpec spec, Orders orders,
                           std::function<void(std::string_view message)> on_message);
  void hear();
  // Lost when the job is gone.
  void send(std::string_view text, Fd descriptor = {});
  // Whoever breaks the protocol: the job is killed, and `why` is its complaint().
  void expel(Error why);
  const std::optional<Error>& complaint() const { return complaint_; }

 private:
  Loop& loop_;
  JobRunner& jobs_;
  std::unique_ptr<Job> job_;  // null: not yet, or no longer
  Duration patience_{};
  std::unique_ptr<Timer> silence_;
  std::optional<Error> complaint_;
};

// Why a slice that did not end well did not, naming the limit.
std::optional<Error> failure_of_slice(const SliceJail& jail, const JobEnd& end,
                                      const JobSpec& spec);
// Whether another try may end better: not of what ran out of memory or time, or broke the protocol.
bool may_retry_slice(const SliceJail& jail, const JobEnd& end);

// What is left of a folder in which a jail may have made any number of files. Blocking.
template <typename Folder>
Task<void> remove_folder(Pool& pool, Folder folder) {
  co_await pool.run([&folder] { const Folder gone = std::move(folder); });
}

// What a jail left, a plain file of its own of at most `max` bytes. Blocking.
Result<Fd> open_left(const Path& file, std::uint64_t max);

}  // namespace mayfly
