// The slice of an ingest: what lies elsewhere is fetched (source_fetch.h), foreign files become a
// part in a jail (runner/report/ingest_job.h), and the part a snapshot; rows that a file names are
// left out of one, which is erased then. What the jail does is one slice, whatever its length: cut
// off, it begins again. Loop thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset_store.h"
#include "data/source_fetch.h"
#include "jobs/slice.h"
#include "jobs/slice_jail.h"
#include "publish/source_folder.h"
#include "runner/report/ingest_job.h"

namespace mayfly {

class IngestSlices {
 public:
  struct Parts {  // all outlive the slices
    SliceParts slices;
    DatasetStore& datasets;
    // Of datasets; 0: none. Asked on the loop thread.
    std::function<Bytes(std::string_view project)> byte_limit;
    SourceFetch::Parts fetch;
  };
  explicit IngestSlices(Parts parts) : parts_(std::move(parts)), fetch_(parts_.fetch) {}

  Task<SliceOutcome> run(SliceAsk ask);

 private:
  struct Plan;
  Task<Result<JobStore::SliceResult>> run_in(SliceAsk& ask, SliceOutcome& outcome);
  Task<Result<JobStore::SliceResult>> make(SliceAsk& ask, const FetchState& fetched,
                                           SliceOutcome& outcome);
  Task<Result<JobStore::SliceResult>> run_once(Plan& plan, SliceAsk& ask, SliceOutcome& outcome);
  Result<Plan> make_plan(const SliceAsk& ask, const FetchState& fetched, Bytes limit) const;
  Status add_sources(Plan& plan, const SliceAsk& ask, const FetchState& fetched) const;
  Status add_base(Plan& plan) const;
  Result<JobStore::SliceResult> finish(const Plan& plan, const SnapshotRecord& made) const;
  JobSpec spec_of(const Plan& plan, const SliceAsk& ask, const SourceFolder& folder) const;
  Result<SnapshotRecord> take(const Plan& plan, const Path& work, Pin& pin) const;
  Result<std::vector<DatasetFile>> take_part(const Path& folder, const DatasetSchema& schema,
                                             Pin& pin) const;
  Result<std::vector<DatasetFile>> take_snapshot(const Path& folder, DatasetSchema& schema,
                                                 Pin& pin) const;

  Parts parts_;
  SourceFetch fetch_;
};

}  // namespace mayfly
