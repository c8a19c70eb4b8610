// What is read from, and changed in, a model's graph before ONNX Runtime sees it. Pure functions of
// the parsed protobuf; refusals have reason invalid_model and name what they are about.
#pragma once

#include <onnx/onnx_pb.h>

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "core/tensor.h"

namespace mayfly {

// A name from the model, cut and cleaned for a message.
std::string shown(std::string_view name);

// Operators of unknown domains, inputs nobody produces, names defined twice, cycles, no outputs;
// with all subgraphs.
Status check_graph(const onnx::ModelProto& model);

// A ZipMap at the end makes maps of probabilities that are tensors before it: the tensor takes its
// place under the output's name. Returns one note for each.
std::vector<std::string> replace_zipmaps(onnx::ModelProto& model);

// Whether an operator draws random numbers without a seed of its own: instances forked from one
// session would then draw the same.
bool has_unseeded_random(const onnx::ModelProto& model);

// Inputs that are no initialisers, and outputs. -1 for free dimensions. `rank_unknown` holds the
// outputs that declare no shape at all; theirs is empty until a run shows the rank.
struct GraphSignature {
  Signature signature;
  std::vector<std::size_t> rank_unknown;
  // For each input the names of its free dimensions; "" where it has a size or no name.
  std::vector<std::vector<std::string>> symbols;
};
Result<GraphSignature> read_signature(const onnx::ModelProto& model);

// Every tensor constant in the model: initialisers, attributes, subgraphs, local functions.
using TensorVisitor = std::function<Status(const onnx::TensorProto&)>;
Status visit_tensors(const onnx::ModelProto& model, const TensorVisitor& visit);

}  // namespace mayfly
