// A model file as the publish job works on it: the graph in memory, large weights left in files.
//
// The graph is small, the weights are not. Weights that lie outside the model file stay there: ONNX
// Runtime maps them from the source folder. Weights inside the model file that are large in all are
// moved out, so that the children the job forks do not each carry a copy of them; the file is then
// the only copy, mapped by whoever needs it.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "base/result.h"
#include "runner/publish_graph.h"

namespace mayfly {

// The original, ready for ONNX Runtime: its bytes, and the folder its external weights lie in.
struct BaseModel {
  std::string bytes;
  Path weights_folder;
  GraphSignature graph;
  bool session_after_fork = false;
  std::uint64_t weight_bytes = 0;
  std::vector<std::string> notes;
};

// Weights inside a model file that are larger than this in all are moved out of it.
inline constexpr Bytes kMaxInlineWeights = mib(64);

// Reads, checks and rewrites. `scratch`: an existing folder for weights that are moved out.
// `memory`: what the job may use in all. The model's faults have reason invalid_model.
Result<BaseModel> read_model(const Path& source, const std::string& file, const Path& scratch,
                             Bytes memory);

// Every external-data location stays inside `source` (no absolute path, no "..", no link on the
// way), exists, and holds the bytes that are asked of it.
Status check_external_data(const onnx::ModelProto& model, const Path& model_folder);

}  // namespace mayfly
