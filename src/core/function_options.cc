#include "core/function_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/manifest.h"
#include "core/names.h"
#include "core/reason.h"
#include "core/secret.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxVariables = 64;
constexpr std::size_t kMaxText = 16 * 1024;  // of all variables, and of the parameters

constexpr std::size_t kMostDebianPackages = 32;
constexpr std::size_t kLongestDebianName = 200;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

bool is_variable(std::string_view name) {
  return !name.empty() && is_letter(name.front()) &&
         std::ranges::all_of(name, [](char c) { return is_letter(c) || (c >= '0' && c <= '9'); });
}

std::string complaint_about(std::string_view name, const Json& value) {
  if (!is_variable(name)) return fmt::format("'{}' is no name of a variable", name);
  for (const std::string_view ours : {"PYTHON", "LD_"}) {
    if (name.starts_with(ours)) return fmt::format("'{}': {}* is the platform's", name, ours);
  }
  if (!value.is_string()) return fmt::format("'{}' must be a text", name);
  if (value.get_ref<const std::string&>().find('\0') != std::string::npos)
    return fmt::format("'{}' holds a zero byte", name);
  return {};
}

void read_env(JsonReader& reader, FunctionOptions& options) {
  const Json* env = reader.value("env");
  if (env == nullptr) return;
  if (!env->is_object() || env->size() > kMaxVariables) {
    return reader.error("env", fmt::format("must be a table of at most {} texts", kMaxVariables));
  }
  std::size_t size = 0;
  for (const auto& [name, value] : env->items()) {
    if (std::string complaint = complaint_about(name, value); !complaint.empty())
      return reader.error("env", complaint);
    size += name.size() + value.get_ref<const std::string&>().size();
    options.env[name] = value.get<std::string>();
  }
  if (size > kMaxText) reader.error("env", fmt::format("holds more than {} bytes", kMaxText));
}

void read_secrets(JsonReader& reader, FunctionOptions& options) {
  const Json* secrets = reader.value("secrets");
  if (secrets == nullptr) return;
  if (!secrets->is_array() || secrets->size() > kMostSecretsOfVersion) {
    return reader.error("secrets", fmt::format("must be a list of at most {} names, like "
                                               "[\"API_KEY\"]",
                                               kMostSecretsOfVersion));
  }
  for (const Json& item : *secrets) {
    if (!item.is_string()) return reader.error("secrets", "must be names; values are never in it");
    const auto& name = item.get_ref<const std::string&>();
    if (const Status checked = check_secret_name(name); !checked)
      return reader.error("secrets", checked.error().message);
    options.secrets.push_back(name);
  }
  std::ranges::sort(options.secrets);
  const auto twice = std::ranges::adjacent_find(options.secrets);
  if (twice != options.secrets.end())
    reader.error("secrets", fmt::format("'{}' is named twice", *twice));
}

void read_calls(JsonReader& reader, FunctionOptions& options) {
  const Json* calls = reader.value("calls");
  if (calls == nullptr) return;
  if (!calls->is_array() || calls->size() > kMostCalls) {
    return reader.error("calls", fmt::format("must be a list of at most {} functions, like "
                                             "[\"scale\"]",
                                             kMostCalls));
  }
  for (const Json& item : *calls) {
    if (!item.is_string()) return reader.error("calls", "must be names of functions");
    const auto& text = item.get_ref<const std::string&>();
    // Inside the node the names of other projects have one.
    if (text.find('/') != std::string::npos)
      return reader.error("calls", fmt::format("'{}' is no function of this project", text));
    const auto name = FunctionName::parse(text);
    if (!name) return reader.error("calls", name.error().message);
    options.calls.push_back(name->str());
  }
  std::ranges::sort(options.calls);
  const auto twice = std::ranges::adjacent_find(options.calls);
  if (twice != options.calls.end())
    reader.error("calls", fmt::format("'{}' is named twice", *twice));
}

bool is_one_of(char c, std::string_view others) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || others.contains(c);
}

// As Debian's policy spells names (5.6.7) and versions (5.6.12).
bool is_debian_package(std::string_view text) {
  if (text.size() > kLongestDebianName) return false;
  const std::size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  if (name.size() < 2 || !is_one_of(name.front(), "")) return false;
  if (!std::ranges::all_of(name, [](char c) { return is_one_of(c, "+-."); })) return false;
  if (equals == std::string_view::npos) return true;
  const std::string_view version = text.substr(equals + 1);
  return !version.empty() && version.front() != '-' && std::ranges::all_of(version, [](char c) {
    return (c >= 'A' && c <= 'Z') || is_one_of(c, "+-.:~");
  });
}

void read_debian(JsonReader& reader, FunctionOptions& options) {
  const Json* packages = reader.value("debian");
  if (packages == nullptr) return;
  if (!packages->is_array() || packages->size() > kMostDebianPackages) {
    return reader.error("debian", fmt::format("must be a list of at most {} packages, like "
                                              "[\"python3-scipy\"]",
                                              kMostDebianPackages));
  }
  for (const Json& item : *packages) {
    if (!item.is_string() || !is_debian_package(item.get_ref<const std::string&>())) {
      return reader.error("debian", fmt::format("{} must be a package's name, or name=version",
                                                item.dump(-1, ' ', true)));
    }
    options.debian.push_back(item.get<std::string>());
  }
  std::ranges::sort(options.debian);
}

void read_parameters(JsonReader& reader, FunctionOptions& options) {
  const Json* parameters = reader.value("parameters");
  if (parameters == nullptr) return;
  if (!parameters->is_object()) return reader.error("parameters", "must be a table");
  options.parameters = parameters->dump();
  if (options.parameters.size() > kMaxText)
    reader.error("parameters", fmt::format("hold more than {} bytes", kMaxText));
}

// "FP32[-1,30]"
std::optional<TensorSpec> parse_spec(std::string_view name, std::string_view text) {
  const std::size_t open = text.find('[');
  if (open == std::string_view::npos || !text.ends_with(']')) return std::nullopt;
  const auto type = parse_data_type(text.substr(0, open));
  if (!type || *type == DataType::Bf16) return std::nullopt;  // NumPy has none
  TensorSpec spec{.name = std::string(name), .type = *type, .shape = {}};
  std::string_view rest = text.substr(open + 1, text.size() - open - 2);
  while (!rest.empty()) {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    std::int64_t size = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), size);
    if (error != std::errc() || size < -1 || spec.shape.size() == kMaxRank) return std::nullopt;
    spec.shape.push_back(size);
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    if (rest.empty()) break;
    if (rest.front() != ',') return std::nullopt;
    rest.remove_prefix(1);
    if (rest.empty()) return std::nullopt;
  }
  return spec;
}

void read_types(JsonReader& reader, std::string_view key, std::vector<TensorSpec>& specs) {
  const Json* types = reader.value(key);
  if (types == nullptr) return;
  if (!types->is_object() || types->empty() || types->size() > kMaxTensors)
    return reader.error(key, "must be a table, like x = \"FP32[-1,30]\"");
  for (const auto& [name, value] : types->items()) {
    const auto spec =
        value.is_string() ? parse_spec(name, value.get_ref<const std::string&>()) : std::nullopt;
    if (!spec || name.empty()) {
      return reader.error(
          key, fmt::format("'{}' must be a datatype of the protocol (not BF16, which NumPy lacks) "
                           "with a shape, like \"FP32[-1,30]\"; -1 is any size",
                           name));
    }
    specs.push_back(*spec);
  }
}

Json types_json(const std::vector<TensorSpec>& specs) {
  Json types = Json::object();
  for (const TensorSpec& spec : specs)
    types[spec.name] = fmt::format("{}{}", to_string(spec.type), to_string(spec.shape));
  return types;
}

}  // namespace

void read_function_options(JsonReader& reader, FunctionOptions& options) {
  for (const std::string_view key : {"egress", "network"})
    reader.unsupported(key,
                       "a function's jail has no network; what it needs comes with its request");
  reader.text("handler", options.handler);
  if (const auto checked = check_artifact_path(options.handler); !checked)
    reader.error("handler", checked.error().message);
  if (!options.handler.ends_with(".py")) reader.error("handler", "must be a .py file");
  read_secrets(reader, options);
  read_calls(reader, options);
  reader.boolean("build", options.build);
  read_debian(reader, options);
  read_env(reader, options);
  read_parameters(reader, options);
  read_types(reader, "inputs", options.types.inputs);
  read_types(reader, "outputs", options.types.outputs);
  if (options.types.inputs.empty() != options.types.outputs.empty())
    reader.error("inputs", "and outputs are declared both, or neither");
}

void add_function_options(Json& json, const FunctionOptions& options) {
  json["handler"] = options.handler;
  if (!options.secrets.empty()) json["secrets"] = options.secrets;
  if (!options.calls.empty()) json["calls"] = options.calls;
  if (options.build) json["build"] = true;
  if (!options.debian.empty()) json["debian"] = options.debian;
  if (!options.env.empty()) json["env"] = options.env;
  if (options.parameters != "{}") json["parameters"] = Json::parse(options.parameters);
  if (options.types.inputs.empty()) return;
  json["inputs"] = types_json(options.types.inputs);
  json["outputs"] = types_json(options.types.outputs);
}

std::string to_json(const FunctionOptions& options) {
  Json json = Json::object();
  add_function_options(json, options);
  return json.dump();
}

Result<FunctionOptions> parse_function_options(std::string_view text) {
  const Json json = TRY(parse_json(text, "function.json"));
  FunctionOptions options;
  JsonReader reader(json, "function.json", reason::kInvalidModel);
  read_function_options(reader, options);
  TRY(reader.finish());
  return options;
}

Signature document_signature() {
  const std::vector<TensorSpec> document = {{"body", DataType::Bytes, {1}},
                                            {"content_type", DataType::Bytes, {1}}};
  return {.inputs = document, .outputs = document};
}

}  // namespace mayfly
