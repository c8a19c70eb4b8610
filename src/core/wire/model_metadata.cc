#include "core/wire/model_metadata.h"

#include <array>

#include "core/wire/json_text.h"

namespace mayfly {
namespace {

std::string_view json_bool(Readiness ready) { return ready == Readiness::Yes ? "true}" : "false}"; }

// How an inventory of tensors is written: in metadata, and in a configuration. A configuration's
// dims leave out the batch where max_batch_size says that there is one; here it is 0, and they are
// the whole shape.
struct SpecWords {
  std::string_view type_key;
  std::string_view shape_key;
  std::string_view (*type)(DataType);
};
constexpr SpecWords kMetadata = {R"(,"datatype":")", R"(","shape":)",
                                 [](DataType type) -> std::string_view { return to_string(type); }};
constexpr SpecWords kConfiguration = {R"(,"data_type":")", R"(","dims":)", config_data_type};

void append_specs(std::string& text, std::span<const TensorSpec> specs, const SpecWords& words) {
  text += '[';
  for (const TensorSpec& spec : specs) {
    if (&spec != specs.data()) text += ',';
    text += R"({"name":)";
    append_json_string(text, spec.name);
    text.append(words.type_key).append(words.type(spec.type)).append(words.shape_key);
    text += to_string(spec.shape);
    text += '}';
  }
  text += ']';
}

constexpr auto kExtensions = std::to_array<std::string_view>(
    {"binary_tensor_data", "classification", "model_configuration", "model_repository",
     "model_repository(unload_dependents)", "statistics", "system_shared_memory"});

}  // namespace

std::span<const std::string_view> protocol_extensions(SharedMemory shared) {
  const std::span<const std::string_view> all(kExtensions);
  return shared == SharedMemory::On ? all : all.first(all.size() - 1);
}

std::string_view platform_of(std::string_view runtime) {
  return runtime == "onnx" ? "onnxruntime_onnx" : runtime;
}

std::string_view backend_of(std::string_view runtime) {
  return runtime == "onnx" ? "onnxruntime" : runtime;
}

std::string_view config_data_type(DataType type) {
  switch (type) {
    case DataType::Bool:
      return "TYPE_BOOL";
    case DataType::Uint8:
      return "TYPE_UINT8";
    case DataType::Uint16:
      return "TYPE_UINT16";
    case DataType::Uint32:
      return "TYPE_UINT32";
    case DataType::Uint64:
      return "TYPE_UINT64";
    case DataType::Int8:
      return "TYPE_INT8";
    case DataType::Int16:
      return "TYPE_INT16";
    case DataType::Int32:
      return "TYPE_INT32";
    case DataType::Int64:
      return "TYPE_INT64";
    case DataType::Fp16:
      return "TYPE_FP16";
    case DataType::Fp32:
      return "TYPE_FP32";
    case DataType::Fp64:
      return "TYPE_FP64";
    case DataType::Bytes:
      return "TYPE_STRING";
    case DataType::Bf16:
      return "TYPE_BF16";
  }
  return "TYPE_INVALID";
}

std::string server_metadata_json(std::string_view version, SharedMemory shared) {
  std::string text = R"({"name":"mayfly","version":)";
  append_json_string(text, version);
  text += R"(,"extensions":[)";
  for (const std::string_view& extension : protocol_extensions(shared)) {
    if (&extension != kExtensions.data()) text += ',';
    append_json_string(text, extension);
  }
  text += "]}";
  return text;
}

std::string server_live_json() { return R"({"live":true})"; }

std::string server_ready_json(Readiness ready) {
  return std::string(R"({"ready":)").append(json_bool(ready));
}

std::string model_metadata_json(const ModelDescription& model) {
  std::string text = R"({"name":)";
  append_json_string(text, model.name);
  text += R"(,"versions":[)";
  for (const VersionNumber& version : model.versions) {
    if (&version != model.versions.data()) text += ',';
    text += '"';
    append_json_number(text, std::uint64_t{version.value});
    text += '"';
  }
  text += R"(],"platform":)";
  append_json_string(text, platform_of(model.runtime));
  text += R"(,"inputs":)";
  append_specs(text, model.signature.inputs, kMetadata);
  text += R"(,"outputs":)";
  append_specs(text, model.signature.outputs, kMetadata);
  text += '}';
  return text;
}

std::string model_config_json(const ModelConfiguration& model) {
  std::string text = R"({"name":)";
  append_json_string(text, model.name);
  text += R"(,"platform":)";
  append_json_string(text, platform_of(model.runtime));
  text += R"(,"backend":)";
  append_json_string(text, backend_of(model.runtime));
  text += R"(,"version_policy":{"all":{}},"max_batch_size":0,"input":)";
  append_specs(text, model.signature.inputs, kConfiguration);
  text += R"(,"output":)";
  append_specs(text, model.signature.outputs, kConfiguration);
  text += R"(,"instance_group":[{"name":)";
  append_json_string(text, model.name);
  text += R"(,"kind":"KIND_CPU","count":1}],"default_model_filename":)";
  append_json_string(text, model.model_file);
  text += '}';
  return text;
}

std::string model_ready_json(std::string_view name, Readiness ready) {
  std::string text = R"({"name":)";
  append_json_string(text, name);
  text += R"(,"ready":)";
  text += json_bool(ready);
  return text;
}

}  // namespace mayfly
