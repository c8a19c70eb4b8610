// What a model is tried on, and whether two answers to it are the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/tensor.h"
#include "runner/backend.h"
#include "runner/publish_graph.h"

namespace mayfly {

// A tensor with its bytes, as they lie in invocation memory.
struct TrialTensor {
  std::uint32_t index = 0;  // in the signature's inputs or outputs
  DataType type = DataType::Fp32;
  Shape shape;
  std::vector<std::byte> bytes;
  bool operator==(const TrialTensor&) const = default;
};
using TrialTensors = std::vector<TrialTensor>;

inline constexpr std::size_t kMaxExample = 8 * 1024 * 1024;  // of JSON
inline constexpr std::size_t kMaxTrialOutput = 256 * 1024 * 1024;

// The text of `example`, or of example.json where that is empty; nullopt: there is none.
Result<std::optional<std::string>> read_example_text(const std::string& example,
                                                     const Path& source);

// {"inputs": [{"name", "shape", "datatype", "data"}, …]} or plain {"name": nested lists, …}. Every
// input must be there, and fit. Reason invalid_input.
Result<TrialTensors> parse_example(std::string_view json, const Signature& signature);

// Inputs of several sizes: free dimensions of one name are equal. Floats spread over [0, 1),
// integers 0 and 1, texts "a".
std::vector<TrialTensors> generate_inputs(const GraphSignature& graph);

// All outputs of one run. Borrows the inputs' bytes.
RequestView request_of(const TrialTensors& inputs, const Signature& signature);
// One run; what the model says of the inputs has reason model_error.
Result<TrialTensors> run_trial(Backend& backend, const Signature& signature,
                               const TrialTensors& inputs);

// Whether `got` may stand for `expected`: the same types and shapes; integers, truth values and
// texts equal; floats within
//   |got - expected| <= relative × |expected| + scaled × the tensor's largest magnitude + 1e-9
//   FP32 1e-3 1e-4 · FP64 1e-6 1e-7 · FP16 1e-2 1e-2 · BF16 5e-2 5e-2
// and NaN and infinities where they are. An error says where they differ.
Status agree(const TrialTensors& got, const TrialTensors& expected, const Signature& signature);

// Of the job's own folder: durable when it is sealed.
Status write_file(const Path& path, std::string_view bytes);

// warmup.bin, where the inputs are small enough to keep.
Status write_warmup(const TrialTensors& inputs, const Signature& signature, const Path& folder);

// For files that pass between the job's own processes.
std::string encode(const TrialTensors& tensors);
Result<TrialTensors> decode_tensors(std::string_view bytes);

}  // namespace mayfly
