// The slice of an ingest: foreign files become a part in a jail (runner/report/ingest_job.h), and
// the part a snapshot. It is one slice, whatever its length: cut off, it begins again. Loop thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset_store.h"
#include "jobs/slice.h"
#include "jobs/slice_jail.h"
#include "publish/source_folder.h"
#include "runner/report/ingest_job.h"

namespace mayfly {

// What a submission says, as the detail of its JobSubmission; JSON.
struct IngestDetail {
  IngestOptions options;
  struct Source {
    std::string name;  // as its owner calls it
    Digest digest{};
    bool operator==(const Source&) const = default;
  };
  std::vector<Source> sources;
  bool append = false;
};
std::string to_json(const IngestDetail& detail);
Result<IngestDetail> parse_ingest_detail(std::string_view json);
// The same files, taken in the same way, have the same.
Digest recipe_of(const IngestDetail& detail);

class IngestSlices {
 public:
  struct Parts {  // all outlive the slices
    SliceParts slices;
    DatasetStore& datasets;
    // Of datasets; 0: none. Asked on the loop thread.
    std::function<Bytes(std::string_view project)> byte_limit;
  };
  explicit IngestSlices(Parts parts) : parts_(std::move(parts)) {}

  Task<SliceOutcome> run(SliceAsk ask);

 private:
  struct Plan;
  Task<Result<JobStore::SliceResult>> run_in(SliceAsk& ask, SliceOutcome& outcome);
  Task<Result<JobStore::SliceResult>> run_once(Plan& plan, SliceAsk& ask, SliceOutcome& outcome);
  Result<Plan> make_plan(const SliceAsk& ask, Bytes limit) const;
  Status add_base(Plan& plan) const;
  JobSpec spec_of(const Plan& plan, const SliceAsk& ask, const SourceFolder& folder) const;
  Result<SnapshotRecord> take(const Plan& plan, const Path& work, Pin& pin) const;
  Result<std::vector<DatasetFile>> take_part(const Path& folder, const DatasetSchema& schema,
                                             Pin& pin) const;
  Result<std::vector<DatasetFile>> take_snapshot(const Path& folder, DatasetSchema& schema,
                                                 Pin& pin) const;

  Parts parts_;
};

}  // namespace mayfly
