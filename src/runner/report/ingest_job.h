// Ingest: foreign files become a part of a dataset's snapshot, in a jail
// (docs/design/0013-datasets.md).
//
//   worker → server  {"progress": {"rows": 9, "done_bytes": 100, "total_bytes": 200}}
//
// /source holds the files by the names that the job gives, and of all but a put the snapshot before
// as base/schema.json, base/sketches.bin and, where its rows are read, base/parts/0/train/c0.npy,
// …. The worker leaves in /work:
//
//   report.json              IngestReport; of a refusal nothing else
//   part/train, valid, test  columns
//   snapshot/schema.json, statistics.json, sketches.bin   of the whole snapshot
//
// No I/O here. What comes from a jail or a client is parsed strictly, and its sizes are bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "core/json_reader.h"
#include "runner/report/dataset_schema.h"
#include "runner/report/report.h"
#include "sketch/siphash.h"

namespace mayfly {

enum class SourceFormat : std::uint8_t { Csv, Tsv, Jsonl, Parquet, Arff, Npz, Images };
std::string_view to_string(SourceFormat format);  // "csv"
std::optional<SourceFormat> parse_source_format(std::string_view name);

// What a user says of files; each key may be left out.
struct IngestOptions {
  SourceFormat format = SourceFormat::Csv;
  std::map<std::string, ColumnType> types = {};  // of columns, where what is found is not wanted
  std::vector<std::string> drop = {};            // columns that are not kept
  std::vector<std::string> missing = {};  // texts that stand for no value, besides those known
  std::string delimiter = {};             // of csv: one character; empty: as its header has it
  std::string target = {};
  std::string event_time = {};
  SplitRule split = {};
  std::vector<std::uint32_t> image = {};  // height, width, channels; empty: those of the first one
  std::uint64_t max_bad_rows = 100;
  bool operator==(const IngestOptions&) const = default;
};
inline constexpr std::size_t kMaxIngestOptions = 40 * 1024;
Json to_json_value(const IngestOptions& options);
// `format` must be there.
Result<IngestOptions> read_ingest_options(const Json& json);

// What the files are to the dataset.
enum class IngestMode : std::uint8_t {
  Put,      // all of it
  Append,   // more rows: a part behind those that are there
  Rebuild,  // the same, where rows that are there may change their split: one part of all rows
  Without,  // they name rows that go: one part of all others
};
std::string_view to_string(IngestMode mode);  // "put"
std::optional<IngestMode> parse_ingest_mode(std::string_view name);
// Whether the rows that are there are read, and stored again.
inline bool reads_base(IngestMode mode) {
  return mode == IngestMode::Rebuild || mode == IngestMode::Without;
}

struct IngestSource {
  std::string file;  // in /source
  std::string name;  // as its owner calls it
  bool operator==(const IngestSource&) const = default;
};
inline constexpr std::size_t kMaxIngestSources = 64;

struct IngestJob {
  IngestOptions options;
  std::vector<IngestSource> sources;  // rows in their order
  SipKey key;                         // of the dataset
  IngestMode mode = IngestMode::Put;  // all others: of what base/ holds
  Bytes max_bytes = mib(1024);        // of the part
  Bytes memory = mib(512);            // that the worker may take
};
std::string to_json(const IngestJob& job);
// nullopt: the request of another kind of job.
Result<std::optional<IngestJob>> parse_ingest_job(std::string_view json);

// ---- Worker → server: hostile -------------------------------------------------------------------

struct IngestProgress {
  std::uint64_t rows = 0;
  std::uint64_t done_bytes = 0;  // ≤ total_bytes
  std::uint64_t total_bytes = 0;
  bool operator==(const IngestProgress&) const = default;
};
std::string to_json(const IngestProgress& progress);
Result<IngestProgress> parse_ingest_progress(std::string_view text);

struct BadRow {
  std::string file;        // its owner's name for it
  std::uint64_t row = 0;   // from 1, without a header
  std::uint64_t line = 0;  // from 1; 0: the format has none
  std::string error;
  std::string input;  // the row as it stands there, cut
  bool operator==(const BadRow&) const = default;
};
inline constexpr std::size_t kMaxShownBadRows = 100;
inline constexpr std::size_t kMaxShownInput = 256;
inline constexpr std::size_t kMaxNotes = 100;
inline constexpr std::size_t kMaxIngestReport = 1 << 20U;

struct IngestReport {
  std::optional<Refusal> refused = {};
  std::uint64_t train = 0, valid = 0, test = 0;  // rows
  std::uint64_t bad_rows = 0;
  std::uint64_t removed = 0;            // rows, of Without
  std::vector<BadRow> shown = {};       // the first of them
  std::vector<std::string> notes = {};  // what its owner should know
  bool operator==(const IngestReport&) const = default;
};
std::string to_json(const IngestReport& report);
Json to_json_value(const IngestReport& report);
Result<IngestReport> parse_ingest_report(std::string_view text);

// statistics.json, as clients are shown it: {"columns": [{"name", "type", "count", "missing", …}]},
// one for each column of the schema, in its order.
inline constexpr std::size_t kMaxStatisticsJson = 32 << 20U;
Status check_statistics(std::string_view text, const DatasetSchema& schema);

}  // namespace mayfly
