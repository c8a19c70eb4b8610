// The record of how a version came to be: JSON, written once when the version is made and kept as
// long as it is. All that a later comparison, a lineage or a model card says of a training stands
// in it, so that it says the same when job and data are gone.
//
//   {"format": 1, "function", "job", "trial", "score", "created", "trigger": {"kind", "who",
//   "why"},
//    "parent", "goal", "outcome", "why", "task", "target", "positive", "group", "classes",
//    "metric", "trainer": {"kind", "function", "params", "seed", "rounds", "threads", "features",
//    "code": {"function", "artifact", "environment", "packages"}},
//    "data": [{"dataset", "id", "snapshot", "digest", "rows": {"train", "valid", "test"},
//    "bad_rows",
//              "split", "split_basis", "sources", "created"}],
//    "rows", "left_out", "model": {"sha256", "size"}, "software": {"mayfly", "runtime"},
//    "metrics": {"valid", "test"}, "baselines", "looks", "alpha", "confusion": {"valid", "test"},
//    "calibration", "slices", "importance", "parity", "history", "cost", "gate"}
//
// What a training did not say is left out. Records of imported versions come from elsewhere:
// whoever reads one expects any JSON under every key.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "core/json_reader.h"
#include "core/names.h"
#include "data/dataset.h"
#include "gate/gate.h"
#include "jobs/trained_model.h"
#include "store/digest.h"

namespace mayfly {

inline constexpr std::size_t kMaxTrainingRecord = std::size_t{8} << 20;

// A snapshot that a model learned from, and how its rows were split.
struct LearnedFrom {
  DatasetRecord dataset;
  SnapshotRecord snapshot;
  SplitRule split;         // of its schema: with the times of a split by time
  std::string basis = {};  // a digest of what rows were split by (split_basis)
};

struct RecordParts {
  const TrainedModel& trained;
  const Json& report;  // report.json of the winner
  const LearnedFrom& data;
  Digest model;
  std::uint64_t model_size = 0;
  std::string software = {};  // version of ONNX Runtime
  VersionNumber parent = {};  // the champion then; 0: none
  WallTime now{};
  Json gate = Json();  // null: nobody asked it
};
Json training_record(const RecordParts& parts);

// What the gate must know of one; nullopt: it does not say.
struct RecordOrigin {
  gate::Origin origin;
  std::vector<std::string> classes;
  std::string positive;
  std::string group;  // of rankings and recommendations
};
std::optional<RecordOrigin> origin_of(const Json& record);

// invalid_manifest: no record, or of a format that this build does not know.
Result<Json> parse_training_record(std::string_view text);

}  // namespace mayfly
