#include "gateway/openapi_document.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

namespace mayfly {
namespace {

template <typename T>
Json integers() {
  return {{"type", "integer"},
          {"minimum", std::numeric_limits<T>::min()},
          {"maximum", std::numeric_limits<T>::max()}};
}

Json element_schema(DataType type) {
  switch (type) {
    case DataType::Bool:
      return {{"type", "boolean"}};
    case DataType::Uint8:
      return integers<std::uint8_t>();
    case DataType::Uint16:
      return integers<std::uint16_t>();
    case DataType::Uint32:
      return integers<std::uint32_t>();
    case DataType::Uint64:
      return integers<std::uint64_t>();
    case DataType::Int8:
      return integers<std::int8_t>();
    case DataType::Int16:
      return integers<std::int16_t>();
    case DataType::Int32:
      return integers<std::int32_t>();
    case DataType::Int64:
      return integers<std::int64_t>();
    case DataType::Fp16:
    case DataType::Bf16:
    case DataType::Fp32:
    case DataType::Fp64:
      return {{"type", "number"}};
    case DataType::Bytes:
      return {{"type", "string"}};
  }
  return Json::object();
}

// Of a reply, where a number may be NaN or infinite, which JSON has no word for.
Json reply_element_schema(DataType type) {
  const bool number = element_schema(type)["type"] == "number";
  return number ? Json::object() : element_schema(type);
}

Json nested(std::span<const std::int64_t> shape, Json element) {
  for (std::size_t i = shape.size(); i-- > 0;) {
    Json array{{"type", "array"}, {"items", std::move(element)}};
    if (shape[i] >= 0) {
      array["minItems"] = shape[i];
      array["maxItems"] = shape[i];
    }
    element = std::move(array);
  }
  return element;
}

bool may_be_one(std::int64_t dimension) { return dimension == -1 || dimension == 1; }

Json constant(std::string_view value) { return {{"const", value}}; }

// {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": …} of the Open Inference Protocol.
Json protocol_tensor(const TensorSpec& spec) {
  Json dimensions = Json::array();
  for (const std::int64_t dimension : spec.shape) {
    dimensions.push_back(dimension < 0 ? Json{{"type", "integer"}, {"minimum", 0}}
                                       : Json{{"const", dimension}});
  }
  Json shape{{"type", "array"}, {"minItems", spec.shape.size()}, {"maxItems", spec.shape.size()}};
  if (!dimensions.empty()) shape["prefixItems"] = std::move(dimensions);
  return {{"type", "object"},
          {"required", {"name", "datatype", "shape"}},
          {"properties",
           {{"name", constant(spec.name)},
            {"datatype", constant(to_string(spec.type))},
            {"shape", std::move(shape)},
            {"data", {{"type", "array"}}},
            {"parameters", {{"type", "object"}}}}}};
}

Json names_of(const std::vector<TensorSpec>& specs) {
  Json names = Json::array();
  for (const TensorSpec& spec : specs) names.push_back(spec.name);
  return names;
}

Json protocol_request(const Signature& signature) {
  Json choices = Json::array();
  for (const TensorSpec& input : signature.inputs) choices.push_back(protocol_tensor(input));
  return {{"type", "object"},
          {"required", {"inputs"}},
          {"properties",
           {{"id", {{"type", "string"}}},
            {"parameters", {{"type", "object"}}},
            {"inputs",
             {{"type", "array"},
              {"minItems", signature.inputs.size()},
              {"maxItems", signature.inputs.size()},
              {"items", {{"oneOf", std::move(choices)}}}}},
            {"outputs",
             {{"type", "array"},
              {"items",
               {{"type", "object"},
                {"required", {"name"}},
                {"properties", {{"name", {{"enum", names_of(signature.outputs)}}}}}}}}}}}};
}

Json object_of(const std::vector<TensorSpec>& specs, Json (*schema)(const TensorSpec&)) {
  Json properties = Json::object();
  for (const TensorSpec& spec : specs) properties[spec.name] = schema(spec);
  return {{"type", "object"},
          {"required", names_of(specs)},
          {"additionalProperties", false},
          {"properties", std::move(properties)}};
}

Json plain_request(const Signature& signature) {
  Json by_name = object_of(signature.inputs, plain_input_schema);
  if (signature.inputs.size() != 1) return by_name;
  return {{"anyOf", {std::move(by_name), plain_input_schema(signature.inputs.front())}}};
}

// One function in place of the parameter {name}.
Json path_of(const Json& generic, std::string_view function, Json request) {
  Json path = generic;
  path.erase("parameters");
  Json& operation = path["post"];
  operation["summary"] = fmt::format("Predict with {}", function);
  Json& content = operation["requestBody"]["content"]["application/json"];
  content = {{"schema", std::move(request)}};
  operation["responses"]["200"]["content"]["application/json"].erase("example");
  return path;
}

void add_function(Json& paths, const DescribedFunction& function) {
  const Signature& signature = *function.signature;
  Json protocol =
      path_of(paths["/v2/models/{name}/infer"], function.name, protocol_request(signature));
  paths[fmt::format("/v2/models/{}/infer", function.name)] = std::move(protocol);
  const Json anything = Json::object();
  Json plain = path_of(paths["/functions/{name}"], function.name,
                       function.documents ? anything : plain_request(signature));
  plain["post"]["responses"]["200"]["content"]["application/json"]["schema"] =
      function.documents ? anything : object_of(signature.outputs, plain_output_schema);
  paths[fmt::format("/functions/{}", function.name)] = std::move(plain);
}

}  // namespace

Json plain_input_schema(const TensorSpec& input) {
  const Json element = element_schema(input.type);
  std::span<const std::int64_t> shape(input.shape);
  std::vector<Json> forms = {nested(shape, element)};
  const auto add = [&](std::span<const std::int64_t> part) {
    Json form = nested(part, element);
    if (std::ranges::find(forms, form) == forms.end()) forms.push_back(std::move(form));
  };
  for (std::size_t left_out = 1; left_out <= shape.size(); ++left_out) {
    if (!may_be_one(shape[left_out - 1])) break;
    add(shape.subspan(left_out));
  }
  for (std::size_t kept = shape.size(); kept-- > 1;) {
    if (!may_be_one(shape[kept])) break;
    add(shape.first(kept));
  }
  if (forms.size() == 1) return std::move(forms.front());
  return {{"anyOf", forms}};
}

Json plain_output_schema(const TensorSpec& output) {
  return nested(output.shape, reply_element_schema(output.type));
}

std::string openapi_document(std::span<const DescribedFunction> functions) {
  static const Json kBase = Json::parse(openapi_base());
  Json document = kBase;
  document["servers"] = Json::array({{{"url", "/"}}});
  for (const DescribedFunction& function : functions) add_function(document["paths"], function);
  return document.dump();
}

}  // namespace mayfly
