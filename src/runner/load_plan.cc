#include "runner/load_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/json_reader.h"
#include "core/manifest.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::string_view kWhat = "load.json";
constexpr std::array<std::string_view, 2> kFormNames = {"onnx", "ort"};
constexpr std::array<std::string_view, 4> kLevelNames = {"none", "basic", "extended", "all"};

Json tensors_json(const std::vector<TensorSpec>& specs) {
  Json list = Json::array();
  for (const TensorSpec& spec : specs) {
    list.push_back(
        {{"name", spec.name}, {"datatype", to_string(spec.type)}, {"shape", spec.shape}});
  }
  return list;
}

std::unexpected<Error> bad_field(std::string_view key, std::string_view complaint) {
  return refuse(reason::kInvalidModel, fmt::format("{}: {}: {}", kWhat, key, complaint));
}

Result<TensorSpec> read_tensor(const Json& json) {
  JsonReader reader(json, kWhat, reason::kInvalidModel);
  TensorSpec spec;
  std::string type;
  reader.text("name", spec.name).text("datatype", type);
  const Json* shape = reader.value("shape");
  TRY(reader.finish());
  const auto known = parse_data_type(type);
  if (!known) return bad_field("datatype", "unknown");
  spec.type = *known;
  if (shape == nullptr || !shape->is_array() || shape->size() > kMaxRank)
    return bad_field("shape", "not a list");
  for (const Json& dimension : *shape) {
    if (!dimension.is_number_integer() || dimension.get<std::int64_t>() < -1)
      return bad_field("shape", "bad dimension");
    spec.shape.push_back(dimension.get<std::int64_t>());
  }
  return spec;
}

Result<std::vector<TensorSpec>> read_tensors(const Json* list, std::string_view key) {
  if (list == nullptr || !list->is_array() || list->size() > kMaxTensors)
    return bad_field(key, "not a list of tensors");
  std::vector<TensorSpec> specs;
  for (const Json& item : *list) specs.push_back(TRY(read_tensor(item)));
  return specs;
}

template <std::size_t N>
Result<std::size_t> index_in(const std::array<std::string_view, N>& names, std::string_view name,
                             std::string_view key) {
  const auto* found = std::ranges::find(names, name);
  if (found == names.end()) return bad_field(key, "unknown");
  return static_cast<std::size_t>(found - names.begin());
}

Status check_file_name(std::string_view name, std::string_view key) {
  if (!check_artifact_path(name) || name.find('/') != std::string_view::npos) {
    return bad_field(key, "not the name of a file in this folder");
  }
  return {};
}

}  // namespace

std::string to_json(const LoadPlan& plan) {
  const Json json = {{"format", 1},
                     {"form", kFormNames.at(static_cast<std::size_t>(plan.form))},
                     {"model", plan.model},
                     {"weights", plan.weights},
                     {"prepack", plan.prepack},
                     {"optimise", kLevelNames.at(static_cast<std::size_t>(plan.optimise))},
                     {"inputs", tensors_json(plan.signature.inputs)},
                     {"outputs", tensors_json(plan.signature.outputs)}};
  return json.dump();
}

Result<LoadPlan> parse_load_plan(std::string_view text) {
  const Json json = TRY(parse_json(text, kWhat));
  LoadPlan plan;
  std::uint32_t format = 0;
  std::string form;
  std::string level = "none";
  JsonReader reader(json, kWhat, reason::kInvalidModel);
  reader.integer("format", format, 1, 1).text("form", form).text("model", plan.model);
  reader.text("weights", plan.weights).boolean("prepack", plan.prepack).text("optimise", level);
  const Json* inputs = reader.value("inputs");
  const Json* outputs = reader.value("outputs");
  TRY(reader.finish());
  if (format != 1) return bad_field("format", "missing");
  plan.form = static_cast<ModelForm>(TRY(index_in(kFormNames, form, "form")));
  plan.optimise = static_cast<Optimise>(TRY(index_in(kLevelNames, level, "optimise")));
  TRY(check_file_name(plan.model, "model"));
  if (!plan.weights.empty()) TRY(check_file_name(plan.weights, "weights"));
  plan.signature.inputs = TRY(read_tensors(inputs, "inputs"));
  plan.signature.outputs = TRY(read_tensors(outputs, "outputs"));
  return plan;
}

}  // namespace mayfly
