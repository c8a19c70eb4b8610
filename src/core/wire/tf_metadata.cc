#include "core/wire/tf_metadata.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "core/wire/json_text.h"

namespace mayfly {
namespace {

std::string_view tf_type(DataType type) {
  switch (type) {
    case DataType::Bool:
      return "DT_BOOL";
    case DataType::Uint8:
      return "DT_UINT8";
    case DataType::Uint16:
      return "DT_UINT16";
    case DataType::Uint32:
      return "DT_UINT32";
    case DataType::Uint64:
      return "DT_UINT64";
    case DataType::Int8:
      return "DT_INT8";
    case DataType::Int16:
      return "DT_INT16";
    case DataType::Int32:
      return "DT_INT32";
    case DataType::Int64:
      return "DT_INT64";
    case DataType::Fp16:
      return "DT_HALF";
    case DataType::Bf16:
      return "DT_BFLOAT16";
    case DataType::Fp32:
      return "DT_FLOAT";
    case DataType::Fp64:
      return "DT_DOUBLE";
    case DataType::Bytes:
      return "DT_STRING";
  }
  return "DT_INVALID";
}

// 64-bit numbers are strings in the JSON of protocol buffers.
template <typename Integer>
void append_quoted(std::string& text, Integer value) {
  text += '"';
  append_json_number(text, value);
  text += '"';
}

void append_tensor_info(std::string& text, const TensorSpec& spec) {
  append_json_string(text, spec.name);
  text += R"(:{"dtype":")";
  text += tf_type(spec.type);
  text += R"(","tensor_shape":{"dim":[)";
  for (std::size_t i = 0; i < spec.shape.size(); ++i) {
    text += i > 0 ? R"(,{"size":)" : R"({"size":)";
    append_quoted(text, spec.shape[i]);
    text += R"(,"name":""})";
  }
  text += R"(],"unknown_rank":false},"name":)";
  append_json_string(text, spec.name + ":0");  // as TensorFlow names the tensor of a graph
  text += '}';
}

void append_tensor_infos(std::string& text, std::span<const TensorSpec> specs) {
  text += '{';
  for (const TensorSpec& spec : specs) {
    if (&spec != specs.data()) text += ',';
    append_tensor_info(text, spec);
  }
  text += '}';
}

}  // namespace

std::string tf_model_status_json(std::span<const VersionNumber> versions) {
  std::vector<VersionNumber> newest_first(versions.begin(), versions.end());
  std::ranges::sort(newest_first, std::greater());
  std::string text = R"({"model_version_status":[)";
  for (const VersionNumber& version : newest_first) {
    text += &version != newest_first.data() ? R"(,{"version":)" : R"({"version":)";
    append_quoted(text, std::uint64_t{version.value});
    text += R"(,"state":"AVAILABLE","status":{"error_code":"OK","error_message":""}})";
  }
  text += "]}";
  return text;
}

std::string tf_model_metadata_json(const TfModelDescription& model) {
  std::string text = R"({"model_spec":{"name":)";
  append_json_string(text, model.name);
  text += R"(,"signature_name":"","version":)";
  append_quoted(text, std::uint64_t{model.version.value});
  text += R"(},"metadata":{"signature_def":{"signature_def":{"serving_default":{"inputs":)";
  append_tensor_infos(text, model.signature.inputs);
  text += R"(,"outputs":)";
  append_tensor_infos(text, model.signature.outputs);
  text += R"(,"method_name":"tensorflow/serving/predict"}}}}})";
  return text;
}

}  // namespace mayfly
