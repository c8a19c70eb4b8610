// One run of a session on invocation memory, and what is remembered from run to run to make the
// next one cheaper. Nothing here is shared between threads.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "core/tensor.h"
#include "runner/backend.h"
#include "runner/onnx_runtime.h"
#include "sandbox/channel.h"

namespace mayfly {

ONNXTensorElementDataType ort_type(DataType type);
// Unimplemented for element types that the protocol does not have.
Result<DataType> data_type(ONNXTensorElementDataType type);

class OnnxInvoker {
 public:
  // `runtime` and `session` outlive me; so does `signature`, whose names ONNX Runtime is given.
  static Result<OnnxInvoker> create(const OnnxRuntime& runtime, OrtSession& session,
                                    const Signature& signature);

  // `region`: where outputs may be computed in place, from `outputs_begin` on; empty: nowhere. The
  // results are valid until the next run.
  Result<const RunResults*> run(const RequestView& request, std::span<std::byte> region,
                                std::uint64_t outputs_begin);
  Status copy_results(const OutputPlacement& placement, std::span<std::byte> target) const;
  // Frees what the last run allocated. Afterwards copy_results has nothing to copy.
  void release_results();

 private:
  using Value = OrtOwned<OrtValue>;
  // A value made over memory that is not ours, kept while the next run uses the same.
  struct Bound {
    Value value;
    std::byte* data = nullptr;
    std::uint64_t bytes = 0;
    DataType type = DataType::Fp32;
    Shape shape;
    bool is(DataType t, const Shape& s, std::span<const std::byte> memory) const {
      return value && data == memory.data() && bytes == memory.size() && type == t && shape == s;
    }
  };
  // What results_.plans holds for: these outputs, of inputs of these shapes.
  struct Lesson {
    std::vector<std::uint32_t> inputs;
    std::vector<Shape> shapes;
    std::vector<std::uint32_t> outputs;
    bool matches(const RequestView& request) const;
  };

  // Values over one place that requests come in: a region or a lane. Making them anew for each
  // request would cost as much as a small model.
  struct Binding {
    const std::byte* place = nullptr;
    std::vector<Bound> inputs;
    std::vector<Bound> outputs;
  };

  OnnxInvoker(const OnnxRuntime& runtime, OrtSession& session, const Signature& signature);
  Binding& binding_of(const std::byte* place);
  Value no_value() const { return {nullptr, runtime_->api().ReleaseValue}; }
  Status check_indices(const RequestView& request) const;
  Status bind(Bound& bound, DataType type, const Shape& shape, std::span<std::byte> memory);
  Status bind_strings(Bound& bound, const Shape& shape, std::span<const std::byte> bytes);
  Status bind_inputs(const RequestView& request);
  Status bind_outputs(std::span<std::byte> region, std::uint64_t outputs_begin);
  Status run_bound(const RequestView& request);
  Status learn(const RequestView& request);
  Result<OutputPlan> describe(OrtValue* value, std::uint32_t output) const;
  Status copy_strings(OrtValue* value, std::uint64_t elements, std::span<std::byte> target) const;
  void clear_outputs();

  const OnnxRuntime* runtime_;
  OrtSession* session_;
  const Signature* signature_;
  OrtAllocator* allocator_ = nullptr;
  OrtOwned<OrtMemoryInfo> memory_info_;
  std::vector<Binding> bindings_;
  Binding* bound_ = nullptr;        // of the request being run
  std::vector<OrtValue*> outputs_;  // of the last run; owned by bound_ or owned_outputs_
  std::vector<Value> owned_outputs_;
  std::vector<const char*> input_names_;
  std::vector<const char*> output_names_;
  std::vector<const OrtValue*> input_values_;
  Lesson lesson_;
  // Some output's shape depends on the data: computing in place was refused once.
  bool shapes_vary_ = false;
  RunResults results_;
};

}  // namespace mayfly
