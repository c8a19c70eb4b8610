// Runs jobs, slice by slice, as guests of the requests that the node is there for: within
// Options::cpus and Options::memory, and only where the node has room. A slice that has run for
// `slice` is stopped at its next checkpoint, and another job's turn comes, projects in turn; so is
// one whose memory requests need.
//
// Whatever happens to the server, a job goes on from its last checkpoint. A job that was submitted
// ends in exactly one of done, failed, cancelled, expired.
//
// Loop thread; what blocks runs on a pool of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "async/cancel.h"
#include "async/event.h"
#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "async/timer.h"
#include "base/rng.h"
#include "events/backoff.h"
#include "jobs/job_metrics.h"
#include "jobs/job_store.h"
#include "jobs/slice.h"

namespace mayfly {

class JobEngine {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    JobStore& store;
    Rng& rng;
    RunSlice run;
    std::function<Task<void>(const JobRecord& job, const SliceBill& spent)> bill;
    std::function<bool()> has_memory;  // that requests do not need
    // Of files that the project's jobs keep; 0: none.
    std::function<Bytes(std::string_view project)> byte_limit;
  };
  struct Options {
    std::uint32_t cpus = 1;
    Bytes memory = gib(1);  // of all slices together
    Duration slice = std::chrono::seconds(30);
    // Of one that keeps checkpoints, as long as no other job waits.
    Duration longest_slice = std::chrono::minutes(2);
    Duration sweep_every = std::chrono::seconds(10);
    Duration look_every = std::chrono::seconds(1);  // at memory, and at who waits
    std::uint64_t max_open = 1000;                  // jobs of a project that are not over
    std::uint32_t max_failures = 3;
    Backoff retries{.first = std::chrono::seconds(1), .longest = std::chrono::minutes(5)};
  };

  JobEngine(Parts parts, Options options);

  // Before anything else, once: what a killed server left is made whole. Blocks.
  Status recover();
  void start();
  // Leases nothing more.
  void stop() { stopped_ = true; }
  // Ends what runs, as if it had not begun since its last checkpoint, and waits for it.
  Task<void> close();

  // Durable when it ends. queue_full, quota_exceeded; too_large for what can never fit.
  Task<Result<JobRecord>> submit(JobSubmission job, std::vector<JobFile> inputs);
  Task<Result<JobRecord>> cancel(std::string id);
  Task<Result<JobRecord>> pause(std::string id);
  Task<Result<JobRecord>> resume(std::string id);
  Task<Result<JobRecord>> find(std::string id);  // not_found
  Task<Result<std::vector<JobRecord>>> list(JobStore::ListAsk ask);
  Task<Result<std::vector<JobFile>>> files(std::string id);
  Task<Result<Bytes>> bytes_of(std::string project);

  // How many jobs have ended while I ran, and a wait for another end than those `seen`; or for a
  // second, so that nobody waits for what he missed.
  std::uint64_t ends() const { return ends_; }
  Task<void> next_end(std::uint64_t seen, CancelToken cancel);

  // What /metrics shows of jobs.
  Task<std::string> metrics();

  Pool& pool() { return pool_; }
  JobStore& store() { return parts_.store; }
  const Options& options() const { return options_; }
  WallTime now() const { return parts_.loop.clock().wall_now(); }

 private:
  struct Running {
    JobLease lease;
    TimePoint began;
    std::string parent;
    Bytes memory;
    std::uint32_t cpus;
    JobProgress progress;
    CancelSource due, stop, kill;
    std::optional<TimePoint> kept_at;  // its last checkpoint
  };

  void look();
  void tell_of_end();
  Task<void> feed();
  Task<bool> lease_one();
  Task<void> arm();
  Task<void> sweep_now_and_then();
  Task<void> watch_memory();
  Task<void> work(JobRecord job);
  Task<Status> run_slice(const JobRecord& job, Running& running);
  // Whether it may go on, although its time is over.
  bool goes_on(const JobRecord& job, const Running& running) const;
  Task<Status> keep(const JobRecord& job, Running& running, std::string checkpoint,
                    std::vector<JobFile> files);
  Result<JobRecord> note_failure(const JobRecord& job, const JobLease& lease,
                                 const SliceOutcome& outcome, bool killed,
                                 const JobStore::Spent& spent);
  Task<Status> end(const JobRecord& job, const Running& running, SliceOutcome outcome,
                   JobStore::Spent spent);
  JobRecord with_progress(JobRecord job) const;
  // Of the job and its parts.
  void for_each_running(std::string_view id, const std::function<void(Running&)>& act);
  Bytes memory_left() const;
  std::uint32_t cpus_left() const;

  Parts parts_;
  Options options_;
  Pool pool_;
  JobMetrics metrics_;
  Gate gate_;
  CancelSource closing_;
  TurnEnd look_;
  Timer again_;
  std::map<std::string, Running*> running_;  // by id
  std::string last_project_;
  std::optional<WallTime> next_due_;     // of the jobs that wait, when they were last looked at
  std::vector<Promise<void>> watchers_;  // of ends
  std::uint64_t ends_ = 0;
  bool feeding_ = false;
  bool wanted_ = false;  // something came while it was fed
  bool watching_ = false;
  bool stopped_ = true;  // until start()
};

}  // namespace mayfly
