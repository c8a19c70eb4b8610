// What jails are given of a snapshot. All that mounts one asks here, so that the rows of the test
// split have one door, which counts who passes it. Blocking: for pools.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "data/data_ref.h"
#include "data/dataset_store.h"
#include "publish/source_folder.h"
#include "runner/report/score_job.h"
#include "store/blob_store.h"

namespace mayfly {

class SnapshotFiles {
 public:
  // Both outlive me. `blobs` has the bytes of datasets.
  SnapshotFiles(DatasetStore& datasets, const BlobStore& blobs)
      : datasets_(datasets), blobs_(blobs) {}

  // not_found, in words, also of what is erased.
  Result<SnapshotRecord> find(std::string_view project, const DataRef& data) const;

  // schema.json, and parts/<number>/… of what may be learned from and tuned on: never a file of the
  // test split.
  Result<std::vector<SourceFile>> to_learn_from(const SnapshotRecord& snapshot) const;
  // schema.json and parts/<number>/… of one split; of the training split, where that is another,
  // the keys and `columns` alone, which baselines are fitted on. The test split: as a look that
  // is counted; or without the target, which tells nobody how good a model is.
  enum class Shows : std::uint8_t { Answers, Features };
  struct ScoreAsk {
    Split split = Split::Valid;
    std::vector<std::string> columns = {};
    std::string target = {};
    std::string looker = {};  // the training, whose looks count once; else the job itself
    WallTime now{};
    Shows shows = Shows::Answers;
  };
  Result<std::vector<SourceFile>> to_score(const SnapshotRecord& snapshot,
                                           const ScoreAsk& ask) const;
  // The same look, counted before anybody is shown anything: its number, from 1, among all at these
  // test rows, however often it is asked for. Rows keep their split, so that looks at the other
  // snapshots of a dataset count, too; of splits by time, those whose test rows begin at the same
  // time.
  Result<std::uint32_t> count_look(const SnapshotRecord& snapshot, std::string_view looker,
                                   WallTime now) const;
  Result<std::vector<TestLook>> looks(const SnapshotRecord& snapshot) const;
  Result<DatasetSchema> schema(const SnapshotRecord& snapshot) const;
  Result<Json> statistics(const SnapshotRecord& snapshot) const;

 private:
  // Snapshots that were looked at and whose test rows are others.
  Result<std::set<std::uint32_t>> with_other_rows(const SnapshotRecord& snapshot) const;
  using Wanted = std::function<bool(std::string_view path)>;  // of a part's file
  Result<std::vector<SourceFile>> files(const SnapshotRecord& snapshot, const Wanted& wanted) const;
  Result<std::string> read(const SnapshotRecord& snapshot, std::string_view path,
                           std::size_t most) const;

  DatasetStore& datasets_;
  const BlobStore& blobs_;
};

}  // namespace mayfly
