// load.json: how a compiled artifact is loaded. Written by publishing, read in the jail. The
// folder:
//
//   load.json     this
//   model.onnx    form "onnx": the graph, its weights in weights.bin beside it (if any)
//   model.ort     form "ort": graph and weights in one file that is mapped and used in place
//   warmup.bin    optional: a request region image (sandbox/channel.h) to warm the session with
//
//   {"format": 1, "form": "onnx" | "ort", "model": "model.onnx",
//    "weights": "weights.bin" | "",             file mapped by ONNX Runtime, populated in order
//    "prepack": false, "optimise": "none" | "basic" | "extended" | "all",
//    "inputs":  [{"name": "x", "datatype": "FP32", "shape": [-1, 30]}, …],
//    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}, …]}
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "core/tensor.h"

namespace mayfly {

// Python: no model; the folder holds function.json instead (runner/python_function.h).
enum class ModelForm : std::uint8_t { Onnx, Ort, Python };
enum class Optimise : std::uint8_t { None, Basic, Extended, All };

struct LoadPlan {
  ModelForm form = ModelForm::Onnx;
  std::string model;
  std::string weights;  // empty: none of its own
  bool prepack = true;
  Optimise optimise = Optimise::None;  // published forms are optimised already
  Signature signature;
};

std::string to_json(const LoadPlan& plan);
// Strict: unknown keys, paths with "/" and types it does not know are errors.
Result<LoadPlan> parse_load_plan(std::string_view json);

}  // namespace mayfly
