// A model's session over an artifact folder: load, warm, run on invocation memory.
//
// Inputs of fixed-size types are used where they lie in the region. Outputs whose shapes an earlier
// run with the same input shapes has shown are computed straight into the region; others are
// allocated by ONNX Runtime and copied.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "core/tensor.h"
#include "runner/backend.h"
#include "runner/load_plan.h"
#include "runner/onnx_invoke.h"
#include "runner/onnx_runtime.h"
#include "sandbox/channel.h"

namespace mayfly {

struct SessionOptions {
  std::uint32_t threads = 1;
  bool prepack = true;
  Optimise optimise = Optimise::None;
  // When not empty, the optimised graph is saved there: in ORT format when the name ends in ".ort",
  // else as ONNX with its larger weights in the file `weights_name` beside it.
  Path save_as = {};
  std::string weights_name = {};
  // For a model in memory: the folder that its external weights lie in.
  Path weights_folder = {};
};

class OnnxSession final : public Backend {
 public:
  // The model of an artifact folder, as its load.json says. `runtime` outlives the session.
  static Result<OnnxSession> load(const OnnxRuntime& runtime, const Path& artifact,
                                  std::uint32_t threads);
  // Any model file; the signature is the session's own. Models whose inputs or outputs are not
  // tensors are refused by name.
  static Result<OnnxSession> open(const OnnxRuntime& runtime, const Path& model, ModelForm form,
                                  const SessionOptions& options);
  // A model in memory that outlives the session.
  static Result<OnnxSession> open(const OnnxRuntime& runtime, std::span<const std::byte> model,
                                  const SessionOptions& options);
  OnnxSession(OnnxSession&&) noexcept;
  OnnxSession& operator=(OnnxSession&&) noexcept;
  ~OnnxSession() override;

  const Signature& signature() const override;
  // What a model says of its input is an Error of reason model_error.
  Result<const RunResults*> run(const RequestView& request, RequestSpan memory,
                                std::uint64_t outputs_begin) override;
  Status copy_results(const OutputPlacement& placement, RequestSpan target) const override;
  void release_results() override;

 private:
  struct State;
  explicit OnnxSession(std::unique_ptr<State> state);
  static Result<OnnxSession> build(const OnnxRuntime& runtime, std::unique_ptr<State> state,
                                   const Path& model, const SessionOptions& options);
  std::unique_ptr<State> state_;
};

// Reads the artifact's mapped files in order, so that the first run does not wait for the disk page
// by page, and so that they are charged to whoever calls this.
Status populate_weights(const Path& artifact);

}  // namespace mayfly
