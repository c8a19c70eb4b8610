// Slices of a batch: a function over the rows of a file. The worker in the jail decodes the file
// and asks for predictions, a chunk of rows at a time (runner/report/batch_job.h); each is a
// request of its function, as if a client had sent it, that runs as a guest. What several slices
// wrote is joined by a last one. docs/batch.md. Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"
#include "jobs/slice.h"
#include "jobs/slice_jail.h"
#include "publish/source_folder.h"
#include "runner/report/batch_job.h"

namespace mayfly {

// What a submission says, as the detail of its JobSubmission; JSON.
struct BatchDetail {
  TableFormat format = TableFormat::Csv;
  TableFormat output_format = TableFormat::Csv;
  std::map<std::string, std::vector<std::string>> columns;
  KeptColumns keep;
  std::uint32_t chunk_rows = 8192;
  std::uint32_t window = 1;  // requests at the same time
  std::uint64_t max_errors = 100;
};
std::string to_json(const BatchDetail& detail);
Result<BatchDetail> parse_batch_detail(std::string_view json);

// How far a batch is: the checkpoint of its JobRecord; JSON.
struct BatchState {
  std::string position;  // of the worker; empty: the beginning
  bool merging = false;  // every row is done
  std::uint32_t parts = 0;
  std::uint64_t rows = 0;
  std::uint64_t failed = 0;  // of those
};
std::string to_json(const BatchState& state);
Result<BatchState> parse_batch_state(std::string_view json);  // "": the beginning

// One request of a chunk.
struct ChunkAsk {
  const JobRecord& job;
  std::string body;
  std::uint64_t header = 0;  // 0: a JSON document
  std::uint64_t rows = 0;
  CancelToken stop;    // waits no longer for the platform
  CancelToken cancel;  // nobody wants it any more
};
struct ChunkReply {
  BatchAnswer answer;  // but its slot
  std::string body;
  bool put_back = false;  // the platform's fault
};

class BatchSlices {
 public:
  using Predict = std::function<Task<ChunkReply>(ChunkAsk)>;
  // Of the version; empty lists: a function without types. Reasons of an unknown function.
  using FindSignature = std::function<Task<Result<Signature>>(const JobRecord& job)>;

  BatchSlices(SliceParts parts, FindSignature find_signature, Predict predict)
      : parts_(std::move(parts)),
        find_signature_(std::move(find_signature)),
        predict_(std::move(predict)) {}

  Task<SliceOutcome> run(SliceAsk ask, Duration slice);

 private:
  struct Slice;
  Task<Result<JobStore::SliceResult>> run_in(Slice& slice, std::optional<SourceFolder>& folder,
                                             Duration length, SliceOutcome& outcome);
  struct Left {
    Path output, errors;
  };
  Task<Result<std::string>> request_of(const Slice& slice, Duration length);
  std::vector<SourceFile> sources_of(const Slice& slice) const;
  JobSpec spec_of(const Slice& slice, std::string request, const SourceFolder& folder) const;
  Result<JobStore::SliceResult> take(const Slice& slice, Pin& pin) const;
  Result<JobStore::SliceResult> finished(const Slice& slice, const BatchState& state,
                                         const Left& left, Pin& pin) const;
  Result<JobFile> take_file(const Path& file, FileRole role, std::string name, Pin& pin) const;
  void answer(Slice& slice, std::string_view text);
  static void tell(Slice& slice, const BatchProgress& said);
  Task<void> predict(Slice& slice, PredictMessage message);

  SliceParts parts_;
  FindSignature find_signature_;
  Predict predict_;
};

}  // namespace mayfly
