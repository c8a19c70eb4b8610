// ONNX Runtime as a plain C++ program uses it: open the library, make an environment and a session,
// run. No jail, no shared memory, nothing of Mayfly: what it is measured against.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <string>
#include <vector>

#include "tool.h"

namespace mayfly::bench {

// How a model is opened. As published (--published yes) its graph is optimised already, and its
// load.json says the rest.
struct ModelOptions {
  std::string model;
  int threads = 0;  // 0: ONNX Runtime's default, one a core
  bool published = false;
  bool prepack = true;
};

// --library, --model, --threads, --published, --prepack, --input NAME,ELEMENT TYPE,2x3,FILE
struct OrtArguments {
  explicit OrtArguments(const Arguments& arguments);
  struct Input {
    std::string name;
    ONNXTensorElementDataType type;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> bytes;
  };
  std::string library;
  ModelOptions options;
  std::vector<Input> inputs;
};

class OrtModel {
 public:
  // Opens the library and creates the environment, telemetry off.
  explicit OrtModel(OrtArguments arguments);
  // Creates the session and the input tensors.
  void load();
  // One inference; may be called from several threads at once. Frees its results.
  void run() const;
  // The same, its outputs appended one after the other.
  void run_into(std::vector<std::byte>& outputs) const;
  // The same on other inputs of the same names: each output's bytes, in the model's order.
  std::vector<std::vector<std::byte>> run_on(const std::vector<OrtArguments::Input>& inputs) const;
  // The memory of the inputs, one after the other: what a request fills.
  std::vector<OrtArguments::Input>& inputs() { return arguments_.inputs; }

 private:
  void check(OrtStatus* status) const;
  void set_options(OrtSessionOptions* options) const;
  void bind_inputs();
  void name_outputs();
  std::vector<OrtValue*> run_once() const;
  std::vector<OrtValue*> run_values(const std::vector<const char*>& names,
                                    const std::vector<const OrtValue*>& values) const;
  OrtValue* bind(const OrtMemoryInfo* memory, const OrtArguments::Input& input) const;
  void append_bytes(OrtValue* output, std::vector<std::byte>& bytes) const;
  std::size_t byte_size(OrtValue* value) const;

  OrtArguments arguments_;
  const OrtApi* api_ = nullptr;
  OrtEnv* env_ = nullptr;  // neither is released: the process ends by _exit
  OrtSession* session_ = nullptr;
  std::vector<const char*> input_names_;
  std::vector<const OrtValue*> input_values_;
  std::vector<std::string> output_texts_;
  std::vector<const char*> output_names_;
};

}  // namespace mayfly::bench
