#include "ort_model.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <sstream>
#include <utility>

namespace mayfly::bench {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

OrtArguments::Input parse_input(const std::string& text) {
  const auto parts = split(text, ',');
  require(parts.size() == 4, "--input NAME,ELEMENT TYPE,2x3,FILE expected");
  OrtArguments::Input input{.name = parts[0],
                            .type = static_cast<ONNXTensorElementDataType>(std::stoi(parts[1])),
                            .shape = {},
                            .bytes = read_whole(parts[3])};
  for (const std::string& dimension : split(parts[2], 'x'))
    input.shape.push_back(std::stoll(dimension));
  return input;
}

std::size_t element_size(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
      return 4;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
      return 8;
    default:
      require(false, "a tensor of a type that the benchmarks do not use");
      return 0;
  }
}

}  // namespace

OrtArguments::OrtArguments(const Arguments& arguments) : library(arguments.text("library")) {
  options = {.model = arguments.text("model"),
             .threads = static_cast<int>(arguments.number("threads", 0)),
             .published = arguments.text("published", "no") == "yes",
             .prepack = arguments.text("prepack", "yes") == "yes"};
  for (const std::string& input : arguments.all("input")) inputs.push_back(parse_input(input));
}

OrtModel::OrtModel(OrtArguments arguments) : arguments_(std::move(arguments)) {
  ::setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  void* library = ::dlopen(arguments_.library.c_str(), RTLD_NOW | RTLD_LOCAL);
  require(library != nullptr, "libonnxruntime cannot be opened");
  using GetApiBase = const OrtApiBase* (*)();
  const auto base = reinterpret_cast<GetApiBase>(::dlsym(library, "OrtGetApiBase"));
  require(base != nullptr, "not ONNX Runtime");
  api_ = base()->GetApi(ORT_API_VERSION);
  require(api_ != nullptr, "ONNX Runtime is too old");
  check(api_->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bench", &env_));
}

void OrtModel::check(OrtStatus* status) const {
  if (status != nullptr) require(false, api_->GetErrorMessage(status));
}

void OrtModel::set_options(OrtSessionOptions* options) const {
  const ModelOptions& wanted = arguments_.options;
  if (wanted.threads > 0) check(api_->SetIntraOpNumThreads(options, wanted.threads));
  if (!wanted.published) return;
  check(api_->SetSessionGraphOptimizationLevel(options, ORT_DISABLE_ALL));
  const auto entry = [&](const char* key) {
    check(api_->AddSessionConfigEntry(options, key, "1"));
  };
  if (!wanted.prepack) entry("session.disable_prepacking");
  if (wanted.model.ends_with(".ort")) {
    entry("session.use_memory_mapped_ort_model");
    entry("session.use_ort_model_bytes_for_initializers");
  }
}

void OrtModel::load() {
  OrtSessionOptions* options = nullptr;
  check(api_->CreateSessionOptions(&options));
  set_options(options);
  check(api_->CreateSession(env_, arguments_.options.model.c_str(), options, &session_));
  api_->ReleaseSessionOptions(options);
  bind_inputs();
  name_outputs();
}

OrtValue* OrtModel::bind(const OrtMemoryInfo* memory, const OrtArguments::Input& input) const {
  OrtValue* value = nullptr;
  // Inputs are only read.
  auto* bytes = const_cast<std::byte*>(input.bytes.data());
  check(api_->CreateTensorWithDataAsOrtValue(memory, bytes, input.bytes.size(), input.shape.data(),
                                             input.shape.size(), input.type, &value));
  return value;
}

void OrtModel::bind_inputs() {
  OrtMemoryInfo* memory = nullptr;
  check(api_->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  for (const OrtArguments::Input& input : arguments_.inputs) {
    input_names_.push_back(input.name.c_str());
    input_values_.push_back(bind(memory, input));
  }
  api_->ReleaseMemoryInfo(memory);
}

void OrtModel::name_outputs() {
  OrtAllocator* allocator = nullptr;
  check(api_->GetAllocatorWithDefaultOptions(&allocator));
  std::size_t count = 0;
  check(api_->SessionGetOutputCount(session_, &count));
  for (std::size_t i = 0; i < count; ++i) {
    char* name = nullptr;
    check(api_->SessionGetOutputName(session_, i, allocator, &name));
    output_texts_.emplace_back(name);
    check(api_->AllocatorFree(allocator, name));
  }
  for (const std::string& name : output_texts_) output_names_.push_back(name.c_str());
}

std::vector<OrtValue*> OrtModel::run_values(const std::vector<const char*>& names,
                                            const std::vector<const OrtValue*>& values) const {
  std::vector<OrtValue*> outputs(output_names_.size());
  check(api_->Run(session_, nullptr, names.data(), values.data(), values.size(),
                  output_names_.data(), output_names_.size(), outputs.data()));
  return outputs;
}

std::vector<OrtValue*> OrtModel::run_once() const {
  return run_values(input_names_, input_values_);
}

std::vector<std::vector<std::byte>> OrtModel::run_on(
    const std::vector<OrtArguments::Input>& inputs) const {
  OrtMemoryInfo* memory = nullptr;
  check(api_->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  std::vector<const char*> names;
  std::vector<OrtValue*> values;
  for (const OrtArguments::Input& input : inputs) {
    names.push_back(input.name.c_str());
    values.push_back(bind(memory, input));
  }
  api_->ReleaseMemoryInfo(memory);
  std::vector<std::vector<std::byte>> results;
  for (OrtValue* output : run_values(names, {values.begin(), values.end()}))
    append_bytes(output, results.emplace_back());
  for (OrtValue* value : values) api_->ReleaseValue(value);
  return results;
}

void OrtModel::run() const {
  for (OrtValue* output : run_once()) api_->ReleaseValue(output);
}

std::size_t OrtModel::byte_size(OrtValue* value) const {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api_->GetTensorTypeAndShape(value, &info));
  std::size_t elements = 0;
  ONNXTensorElementDataType type{};
  check(api_->GetTensorShapeElementCount(info, &elements));
  check(api_->GetTensorElementType(info, &type));
  api_->ReleaseTensorTypeAndShapeInfo(info);
  return elements * element_size(type);
}

void OrtModel::append_bytes(OrtValue* output, std::vector<std::byte>& bytes) const {
  void* data = nullptr;
  check(api_->GetTensorMutableData(output, &data));
  const auto* begin = static_cast<const std::byte*>(data);
  bytes.insert(bytes.end(), begin, begin + byte_size(output));
  api_->ReleaseValue(output);
}

void OrtModel::run_into(std::vector<std::byte>& outputs) const {
  for (OrtValue* output : run_once()) append_bytes(output, outputs);
}

}  // namespace mayfly::bench
