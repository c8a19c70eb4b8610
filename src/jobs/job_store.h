// Jobs on the disk: what is asked, how far it is, and the files that slices made, by their SHA-256.
//
// A checkpoint is one transaction: where the job goes on, its files, and what was said of it. It is
// fenced by the epoch of its lease, so that a slice that was given up changes nothing. The files of
// the last two checkpoints are kept.
//
// Everything blocks, and may be called from any thread but the loop's.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "jobs/job.h"
#include "registry/pins.h"
#include "store/blob_store.h"
#include "store/sqlite.h"

namespace mayfly {

class JobStore {
 public:
  // Whether something else than a job names the blob. Called with a lock held.
  using NamedElsewhere = std::function<Result<bool>(const Digest&)>;
  // `blobs`, of jobs alone, and `clock` outlive me.
  static Result<std::unique_ptr<JobStore>> open(const Path& database, BlobStore& blobs,
                                                const Clock& clock,
                                                NamedElsewhere named_elsewhere = nullptr);

  // Of a project.
  struct Limits {
    std::uint64_t open = 1000;  // jobs that are not over
    Bytes bytes{};              // files that jobs keep; 0: no limit
  };
  // Durable when it returns. queue_full, quota_exceeded: there are limits.open, limits.bytes.
  Status submit(const JobSubmission& job, const std::vector<JobFile>& inputs, const Limits& limits);
  Result<std::optional<JobRecord>> find(std::string_view id);
  struct ListAsk {
    std::string project;
    std::string function{};  // empty: all of the project
    std::optional<JobState> state{};
    std::string before{};  // those older than this one
    std::string parent{};  // its parts; empty: those that are nobody's
    std::size_t limit = 100;
  };
  // Without detail, checkpoint and result.
  Result<std::vector<JobRecord>> list(const ListAsk& ask);
  Result<std::vector<JobFile>> files(std::string_view id);
  struct Overview {  // of all projects
    std::array<std::array<std::uint64_t, kJobStates>, kJobKinds> jobs{};
    std::array<std::uint64_t, kFileRoles> bytes{};
  };
  Result<Overview> overview();

  // The next one that is due, projects in turn, that needs no more than there is; its epoch is new.
  struct LeaseAsk {
    WallTime now;
    std::string after_project;
    Bytes memory;
    std::uint32_t cpus = 1;
  };
  Result<std::optional<JobRecord>> lease(const LeaseAsk& ask);
  // Of those that could run with all that there is.
  Result<std::optional<WallTime>> next_due(const LeaseAsk& most);

  Result<Bytes> bytes_of(std::string_view project);  // equal files count once

  // How a slice ended. conflict: the lease is lost. quota_exceeded: the project's jobs would keep
  // more than `limit`, if that is not 0; nothing has changed.
  struct SliceResult {
    bool finished = false;
    std::string checkpoint;
    std::vector<JobFile> files;  // Checkpoint, Part or Result
    std::string result;          // of what is finished
  };
  struct Spent {
    JobProgress progress;
    Duration cpu{};
    Duration ran{};
  };
  Result<JobRecord> advance(const JobLease& lease, WallTime now, SliceResult slice,
                            const Spent& spent, Bytes limit = {});
  // A checkpoint in the middle of a slice.
  Status keep(const JobLease& lease, const std::string& checkpoint,
              const std::vector<JobFile>& files, const JobProgress& progress, Bytes limit = {});
  // A slice failed: it is tried again at `due`.
  Result<JobRecord> retry(const JobLease& lease, WallTime due, const Error& why,
                          const Spent& spent);
  // A slice was ended by the platform: that is nobody's fault.
  Result<JobRecord> put_back(const JobLease& lease, WallTime due, const Spent& spent);
  Result<JobRecord> give_up(const JobLease& lease, WallTime now, const Error& why,
                            const Spent& spent);

  // Its parts with it. not_found; conflict: it is over, or not paused.
  Result<JobRecord> cancel(std::string_view id, WallTime now);
  Result<JobRecord> pause(std::string_view id);
  Result<JobRecord> resume(std::string_view id);

  // After a kill: what ran waits again. How many.
  Result<std::uint64_t> recover();
  // Expires what is too old, forgets what was kept long enough, and removes what nobody names.
  // Ids of those that expired.
  Result<std::vector<std::string>> sweep(WallTime now);
  // Removes what a process left that died between writing a blob and naming it.
  Status remove_orphans();

  // Bytes that are about to be named: pinned while `pin` lives.
  Result<JobFile> put(FileRole role, std::string name, int file, Pin& pin);
  // A blob that may never be named: sweep() removes it then.
  void watch(const Digest& digest);
  // Blobs that somebody else has just ceased to name go now, unless they are named or pinned.
  void drop(const std::vector<Digest>& digests) { clean_up(digests); }
  Pin pin() { return pins_.hold({}); }
  Result<Fd> open_file(const Digest& digest) const { return blobs_.open(digest); }

 private:
  JobStore(Database database, BlobStore& blobs, const Clock& clock, NamedElsewhere named_elsewhere)
      : database_(std::move(database)),
        blobs_(blobs),
        pins_(clock),
        named_elsewhere_(std::move(named_elsewhere)) {}

  Result<std::optional<JobRecord>> find_job(std::string_view id);
  Result<JobRecord> job(std::string_view id);
  Status insert_files(std::string_view id, std::uint32_t slice, const std::vector<JobFile>& files);
  struct SliceEnding {
    WallTime due{}, ended{};
    std::string checkpoint{}, result{}, reason{}, message{};
  };
  Result<std::vector<Digest>> drop_files(std::string_view id, std::string_view which,
                                         std::uint32_t below);
  Result<std::vector<Digest>> drop_old_files(const JobRecord& job);
  Result<std::vector<Digest>> drop_what_ended(const JobRecord& job, WallTime now);
  Result<JobRecord> end_slice(const JobLease& lease, std::string_view how, const Spent& spent,
                              const SliceEnding& ending);
  Result<JobRecord> end_job(WallTime now, const std::function<Result<JobRecord>()>& end);
  Result<Bytes> sum_bytes(std::string_view project);
  Status check_bytes(std::string_view project, Bytes limit, Bytes before);
  Result<BlobInfo> write_blob(int file);
  Result<bool> is_named(const Digest& digest);
  void clean_up(const std::vector<Digest>& digests);
  Status remove_unnamed(const std::vector<Digest>& digests);

  Database database_;
  BlobStore& blobs_;
  Pins pins_;
  NamedElsewhere named_elsewhere_;
  std::mutex mutex_;
  std::mutex sweeping_;  // held before mutex_
  std::set<Digest> watched_;
};

}  // namespace mayfly
