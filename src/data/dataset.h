// Datasets and their snapshots, as they are kept.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "runner/report/dataset_schema.h"
#include "sketch/siphash.h"
#include "store/digest.h"

namespace mayfly {

struct DatasetRecord {
  std::int64_t id = 0;
  std::string project;
  std::string name;
  SipKey key;       // of its rows' hashes
  SplitRule split;  // the same for all its snapshots, so that no row ever moves
  WallTime created{};
  std::string created_by;
  std::uint32_t latest = 0;  // snapshot; 0: none yet
};

// Numbers stand in the store: append only.
enum class SnapshotKind : std::uint8_t { Put, Append, Without };  // rows of its parent
std::string_view to_string(SnapshotKind kind);

struct SnapshotRows {
  std::uint64_t train = 0, valid = 0, test = 0;
  std::uint64_t all() const { return train + valid + test; }
  bool operator==(const SnapshotRows&) const = default;
};

struct SnapshotRecord {
  std::int64_t dataset = 0;
  std::uint32_t number = 0;
  SnapshotKind kind = SnapshotKind::Put;
  std::uint32_t parent = 0;  // 0: none
  std::string job;           // that made it
  Digest recipe{};           // of what was asked for: files and options
  Digest digest{};           // of its schema and all its columns
  WallTime created{};
  std::string created_by{};
  SnapshotRows rows{};
  std::uint64_t bad_rows = 0;
  std::uint64_t bytes = 0;  // of its files
  std::string report{};     // JSON: of the ingest
  std::string sources{};    // JSON: names and digests
  bool erased = false;
  WallTime erased_at{};
  std::string erased_by{}, reason{};
};

// Somebody's look at the rows of a snapshot's test split.
struct TestLook {
  std::uint32_t snapshot = 0;
  std::string job;
  WallTime time{};
};

// A file of a snapshot: "train/c0.npy" of a part, "schema.json" of the whole.
struct DatasetFile {
  std::string path;
  Digest digest{};
  std::uint64_t size = 0;
  bool operator==(const DatasetFile&) const = default;
};

inline constexpr std::string_view kSchemaFile = "schema.json";
inline constexpr std::string_view kStatisticsFile = "statistics.json";
inline constexpr std::string_view kSketchesFile = "sketches.bin";

}  // namespace mayfly
