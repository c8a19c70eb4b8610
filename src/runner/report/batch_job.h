// Batch prediction: values that cross the wall of a job that runs a function over the rows of a
// file, and of the job that joins what such jobs wrote. The server decodes none of these files.
//
// The worker (runner/batch) is asked for one slice: from a position of the input on, for so long.
// It asks the server for predictions on its control socket, one message per datagram:
//
//   worker → server  {"predict": {"slot": 0, "bytes": 4096, "header": 210, "rows": 64}}
//       the request's body is the first so many bytes of /work/predict-0: an infer request of the
//       Open Inference Protocol with binary tensors, whose JSON part is `header` bytes long; or,
//       for a function without types, one JSON document (header 0). The slot is free again when the
//       reply came.
//   server → worker  {"slot": 0, "status": 200, "bytes": 512, "header": 180}  with a memfd beside
//       it: the reply's body, as long and as laid out as a reply over HTTP (header 0: all JSON);
//       {"slot": 0, "status": 400, "reason": "model_error", "error": "…", "fatal": false}  without.
//       Not fatal: those rows are tried in smaller chunks. Fatal: the slice ends before them.
//   server → worker  {"stop": true}: no further requests; the slice ends with what is in flight.
//   worker → server  {"progress": {"rows": 9, "failed": 1, "done_bytes": 100, "total_bytes": 200}}
//
// A slice leaves in /work: part (its rows' output, a complete file of its format), errors.jsonl
// (one object for each failed row: row, reason, error, and input where it is known) and slice.json
// (SliceEnd). A merge leaves output, errors.jsonl and slice.json.
//
// No I/O here. What comes from a jail is parsed strictly, and its sizes are bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "core/tensor.h"
#include "runner/report/report.h"

namespace mayfly {

enum class TableFormat : std::uint8_t { Csv, Jsonl, Parquet };
std::string_view to_string(TableFormat format);  // "csv"
std::optional<TableFormat> parse_table_format(std::string_view name);

inline constexpr std::uint32_t kMaxBatchWindow = 16;
inline constexpr std::uint32_t kMaxChunkRows = 1024 * 1024;
inline constexpr std::size_t kMaxBatchPosition = 1024;
inline constexpr std::size_t kMaxSliceEnd = 64 * 1024;

// Which of the input's columns stand before the predictions in the output.
struct KeptColumns {
  bool all = false;
  std::vector<std::string> names = {};
  bool operator==(const KeptColumns&) const = default;
};

struct BatchJob {
  std::string input;  // a file's name in /source
  TableFormat format = TableFormat::Csv;
  TableFormat output_format = TableFormat::Csv;
  Signature signature;  // without inputs: a function without types, asked row by row
  // Which columns make an input, where names and shapes do not say so.
  std::map<std::string, std::vector<std::string>> columns = {};
  KeptColumns keep = {};
  std::uint32_t chunk_rows = 8192;  // of one request, at most
  Bytes max_request = mib(64);      // of one request's body; chunks are made smaller for it
  std::uint32_t window = 2;         // requests in flight, at most
  Duration slice = std::chrono::seconds(30);
  std::uint64_t max_errors = 100;   // in all slices together
  std::uint64_t errors_so_far = 0;  // in those before this one
  std::string position = {};        // JSON, of an earlier SliceEnd; empty: from the beginning
  bool operator==(const BatchJob&) const = default;
};
std::string to_json(const BatchJob& job);
// nullopt: the request of another kind of job.
Result<std::optional<BatchJob>> parse_batch_job(std::string_view json);

// Files in /source, numbered from 1. Rows of the parts in their order make the output, the failures
// beside them likewise.
inline constexpr std::uint32_t kMaxBatchParts = 999'999;
std::string part_name(std::uint32_t number);    // "part-000001"
std::string errors_name(std::uint32_t number);  // "errors-000001"
struct MergeJob {
  std::uint32_t parts = 0;  // 1 … kMaxBatchParts
  TableFormat output_format = TableFormat::Csv;
  bool operator==(const MergeJob&) const = default;
};
std::string to_json(const MergeJob& job);
Result<std::optional<MergeJob>> parse_merge_job(std::string_view json);

// ---- Worker → server: hostile -------------------------------------------------------------------

struct PredictMessage {
  std::uint32_t slot = 0;    // < kMaxBatchWindow; the job's own window is the server's to check
  std::uint64_t bytes = 0;   // of the body
  std::uint64_t header = 0;  // of its JSON part; ≤ bytes
  std::uint64_t rows = 0;    // ≥ 1
  bool operator==(const PredictMessage&) const = default;
};

struct BatchProgress {           // of this slice
  std::uint64_t rows = 0;        // done, the failed among them
  std::uint64_t failed = 0;      // ≤ rows
  std::uint64_t done_bytes = 0;  // ≤ total_bytes; of the whole file
  std::uint64_t total_bytes = 0;
  bool operator==(const BatchProgress&) const = default;
};

using WorkerMessage = std::variant<PredictMessage, BatchProgress>;
std::string to_json(const WorkerMessage& message);
Result<WorkerMessage> parse_worker_message(std::string_view text);

// /work/slice.json. `refused` says why the job cannot go on; its reason is of the catalogue.
struct SliceEnd {
  std::string position;  // JSON: where the next slice goes on
  bool finished = false;
  std::uint64_t rows = 0;    // in this slice's part
  std::uint64_t failed = 0;  // of those
  std::optional<Refusal> refused = {};
  bool operator==(const SliceEnd&) const = default;
};
std::string to_json(const SliceEnd& end);
Result<SliceEnd> parse_slice_end(std::string_view json);

// ---- Server → worker ----------------------------------------------------------------------------

struct BatchAnswer {
  std::uint32_t slot = 0;
  std::uint32_t status = 200;  // of HTTP
  std::uint64_t bytes = 0;     // of the body in the descriptor beside it, when the status is 200
  std::uint64_t header = 0;
  std::string reason = {};  // otherwise
  std::string error = {};
  bool fatal = false;
  bool operator==(const BatchAnswer&) const = default;
};
struct StopBatch {
  bool operator==(const StopBatch&) const = default;
};

using ServerMessage = std::variant<BatchAnswer, StopBatch>;
// At most kMaxJobMessage long: a long error is cut.
std::string to_json(const ServerMessage& message);
Result<ServerMessage> parse_server_message(std::string_view text);

}  // namespace mayfly
