#include "core/wire/model_metadata.h"

#include "core/wire/json_text.h"

namespace mayfly {
namespace {

std::string_view json_bool(Readiness ready) { return ready == Readiness::Yes ? "true}" : "false}"; }

void append_specs(std::string& text, std::span<const TensorSpec> specs) {
  text += '[';
  for (const TensorSpec& spec : specs) {
    if (&spec != specs.data()) text += ',';
    text += R"({"name":)";
    append_json_string(text, spec.name);
    text += R"(,"datatype":")";
    text += to_string(spec.type);
    text += R"(","shape":)";
    text += to_string(spec.shape);
    text += '}';
  }
  text += ']';
}

}  // namespace

std::string server_metadata_json(std::string_view version) {
  std::string text = R"({"name":"mayfly","version":)";
  append_json_string(text, version);
  text += R"(,"extensions":["binary_tensor_data"]})";
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
  // The protocol's <project>_<format>; clients know this one by its usual name.
  append_json_string(text, model.runtime == "onnx" ? "onnxruntime_onnx" : model.runtime);
  text += R"(,"inputs":)";
  append_specs(text, model.signature.inputs);
  text += R"(,"outputs":)";
  append_specs(text, model.signature.outputs);
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
