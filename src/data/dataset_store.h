// Datasets on the disk: which there are, their snapshots, and which blobs those are made of. The
// bytes lie among the files of jobs (jobs/job_store.h), which leave what names() says.
//
// Everything blocks, and may be called from any thread but the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "base/result.h"
#include "base/rng.h"
#include "data/dataset.h"
#include "store/sqlite.h"

namespace mayfly {

// The key of rows' hashes that a split's seed stands for.
SipKey key_of_seed(std::uint64_t seed);

class DatasetStore {
 public:
  static Result<std::unique_ptr<DatasetStore>> open(const Path& database);

  // The dataset of that name, made now where there is none. conflict: it splits its rows otherwise.
  struct Wanted {
    std::string project, name;
    std::string caller{};
    SplitRule split{};
    WallTime now{};
    SipKey key{};  // of a new one
  };
  Result<DatasetRecord> ensure(const Wanted& wanted);
  // not_found, in words.
  Result<DatasetRecord> find(std::string_view project, std::string_view name);
  Result<std::vector<DatasetRecord>> list(std::string_view project);

  // The newest first, without their reports.
  Result<std::vector<SnapshotRecord>> snapshots(const DatasetRecord& dataset, std::size_t limit);
  // not_found, in words. 0: the newest that is not erased.
  Result<SnapshotRecord> snapshot(const DatasetRecord& dataset, std::uint32_t number);
  Result<std::optional<SnapshotRecord>> snapshot_of_job(std::string_view job);
  // Its schema.json, statistics.json and sketches.bin; of what is erased, the first alone.
  Result<std::vector<DatasetFile>> files(const SnapshotRecord& snapshot);
  // Its parts in their order, each with its columns; of what is erased, none.
  Result<std::vector<std::vector<DatasetFile>>> parts(const SnapshotRecord& snapshot);

  // The number of this job's look at the test split of the snapshot, from 1, among those at all
  // snapshots of the dataset but `others`; counted once. Durable when it returns. What was counted
  // stays, also of what is erased.
  Result<std::uint32_t> count_look(const SnapshotRecord& snapshot, std::string_view job,
                                   WallTime now, const std::set<std::uint32_t>& others = {});
  // At all snapshots of a dataset, in their order.
  Result<std::vector<TestLook>> looks(std::int64_t dataset);

  struct Commit {
    SnapshotRecord snapshot;         // number, digest and bytes are the store's to say
    std::vector<DatasetFile> part;   // the new one
    std::vector<DatasetFile> files;  // of the whole
    bool whole = true;               // the part has all rows; false: it stands behind its parent's
    Bytes limit{};                   // of all that the project's datasets keep; 0: none
  };
  // Durable when it returns. conflict: of all but a put, its parent is not the newest any more.
  // quota_exceeded.
  Result<SnapshotRecord> commit(Commit commit);

  // Its bytes go, but for what other snapshots have of them; schema, digest and lineage stay.
  // `dropped`: blobs that may be named by nobody now. conflict: it is erased already.
  struct Erasure {
    std::string by, reason;
    WallTime now{};
  };
  struct Erased {
    SnapshotRecord snapshot;
    std::vector<Digest> dropped;
    std::vector<std::uint32_t> shared_with;  // snapshots that keep some of its parts
  };
  Result<Erased> erase(const DatasetRecord& dataset, std::uint32_t number, const Erasure& erasure);

  Result<Bytes> bytes_of(std::string_view project);  // equal files count once
  Result<bool> names(const Digest& blob);
  // One state, and what it names: `named` is told before an erasure can change it.
  Status copy_to(const Path& path, const std::function<void(const Digest&)>& named);

 private:
  explicit DatasetStore(Database database) : database_(std::move(database)) {}
  Result<std::optional<DatasetRecord>> find_dataset(std::string_view project,
                                                    std::string_view name);
  Result<std::optional<SnapshotRecord>> find_snapshot(std::string_view where, std::int64_t dataset,
                                                      std::int64_t number, std::string_view job);
  Result<std::uint32_t> number_next(const SnapshotRecord& snapshot);
  Result<std::vector<std::int64_t>> part_ids(const SnapshotRecord& snapshot);
  Status insert_part(const Commit& commit, const SnapshotRecord& snapshot);
  Status insert_snapshot(const SnapshotRecord& snapshot);
  Status insert_files(std::string_view table, std::int64_t owner, std::uint32_t number,
                      const std::vector<DatasetFile>& files);
  Result<std::vector<DatasetFile>> read_files(Statement& query);
  Result<std::vector<TestLook>> read_looks(std::int64_t dataset);
  Status settle(SnapshotRecord& snapshot);
  Result<std::vector<Digest>> drop_bytes(const SnapshotRecord& snapshot);
  Result<Bytes> sum_bytes(std::string_view project);
  Status check_bytes(std::int64_t dataset, Bytes limit, Bytes before);

  Database database_;
  std::mutex mutex_;
};

}  // namespace mayfly
