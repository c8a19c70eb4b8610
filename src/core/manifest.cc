#include "core/manifest.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "core/json_reader.h"
#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMaxFiles = 10'000;

// What only Python functions may say.
void refuse_of_function(JsonReader& reader) {
  if (reader.value("secrets") != nullptr)
    reader.error("secrets", "is of runtime \"python\": a model has no code that could read them");
  if (reader.value("calls") != nullptr)
    reader.error("calls", "is of runtime \"python\": a model has no code that could call them");
}

void read_options(JsonReader& reader, VersionOptions& options) {
  std::string isolation(to_string(options.isolation));
  reader.text("runtime", options.runtime)
      .text("model", options.model)
      .text("example", options.example)
      .integer("threads", options.threads, 1U, 64U)
      .bytes("memory", options.memory, mib(1), gib(1024))
      .duration("timeout", options.timeout, 1ms, 24h)
      .text("isolation", isolation)
      .bytes("publish_memory", options.publish_memory, mib(64), gib(1024))
      .duration("publish_timeout", options.publish_timeout, 1s, 24h);
  if (is_python(options)) {
    read_function_options(reader, options.function);
    if (!options.model.empty()) reader.error("model", "is of runtime \"onnx\"; use handler");
  } else if (options.runtime != "onnx") {
    reader.error("runtime", "must be \"onnx\" or \"python\": there is no other");
  } else {
    refuse_of_function(reader);
  }
  for (const Isolation choice : {Isolation::Instance, Isolation::Request}) {
    if (isolation == to_string(choice)) options.isolation = choice;
  }
  if (isolation != to_string(options.isolation)) {
    reader.error("isolation", "must be \"instance\" or \"request\"");
  }
  read_batching(reader, options.batching);
  reader.boolean("cache", options.cache);
  if (options.cache && options.isolation == Isolation::Request)
    reader.error("cache", "shares a reply among requests, which isolation = \"request\" forbids");
  if (options.batching.mode != BatchMode::Off && options.isolation == Isolation::Request)
    reader.error("max_batch", "shares a run among requests, which isolation = \"request\" forbids");
  if (options.batching.mode != BatchMode::Off && !options.function.calls.empty())
    reader.error("max_batch",
                 "shares a run among requests; one that calls has a request of its own");
  for (const auto& [key, path] :
       {std::pair("model", &options.model), std::pair("example", &options.example)}) {
    if (path->empty()) continue;
    if (const auto checked = check_artifact_path(*path); !checked)
      reader.error(key, checked.error().message);
  }
}

Json options_json(const VersionOptions& options) {
  Json json{{"runtime", options.runtime},
            {"model", options.model},
            {"example", options.example},
            {"threads", options.threads},
            {"memory", to_string(options.memory)},
            {"timeout", to_string(options.timeout)},
            {"isolation", to_string(options.isolation)},
            {"publish_memory", to_string(options.publish_memory)},
            {"publish_timeout", to_string(options.publish_timeout)}};
  add_batching(json, options.batching);
  json["cache"] = options.cache;
  if (is_python(options)) add_function_options(json, options.function);
  return json;
}

Json specs_json(const std::vector<TensorSpec>& specs) {
  Json list = Json::array();
  for (const TensorSpec& spec : specs) {
    list.push_back(
        {{"name", spec.name}, {"datatype", to_string(spec.type)}, {"shape", spec.shape}});
  }
  return list;
}

Json files_json(const std::vector<ArtifactFile>& files) {
  Json list = Json::array();
  for (const ArtifactFile& file : files) {
    list.push_back({{"path", file.path}, {"sha256", file.sha256}, {"size", file.size}});
  }
  return list;
}

Result<Shape> read_shape(const Json* json) {
  const auto bad = [] {
    return refuse(reason::kInvalidManifest,
                  "shape: must be a list of up to 16 whole numbers >= -1");
  };
  if (json == nullptr || !json->is_array() || json->size() > kMaxRank) return bad();
  Shape shape;
  for (const Json& dimension : *json) {
    if (!dimension.is_number_integer() || dimension.get<std::int64_t>() < -1) return bad();
    shape.push_back(dimension.get<std::int64_t>());
  }
  return shape;
}

Result<TensorSpec> read_spec(const Json& json) {
  TensorSpec spec;
  std::string type;
  JsonReader reader(json, "signature", reason::kInvalidManifest);
  reader.text("name", spec.name).text("datatype", type);
  const Json* shape = reader.value("shape");
  TRY(reader.finish());
  const auto parsed = parse_data_type(type);
  if (!parsed)
    return refuse(reason::kInvalidManifest, fmt::format("signature: unknown datatype '{}'", type));
  spec.type = *parsed;
  spec.shape = TRY(read_shape(shape));
  return spec;
}

Result<std::vector<TensorSpec>> read_specs(const Json* json) {
  if (json == nullptr || !json->is_array() || json->size() > kMaxTensors) {
    return refuse(reason::kInvalidManifest, "signature: inputs and outputs must be lists");
  }
  std::vector<TensorSpec> specs;
  for (const Json& item : *json) specs.push_back(TRY(read_spec(item)));
  return specs;
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Result<Environment> read_environment(const Json& json) {
  Environment environment;
  JsonReader reader(json, "environment", reason::kInvalidManifest);
  reader.text("digest", environment.digest).text("lock", environment.lock);
  TRY(reader.finish());
  if (!is_sha256(environment.digest))
    return refuse(reason::kInvalidManifest, "environment: 'digest' is no SHA-256 digest");
  return environment;
}

Result<std::vector<ArtifactFile>> read_files(const Json* json) {
  if (json == nullptr || !json->is_array() || json->empty() || json->size() > kMaxFiles) {
    return refuse(reason::kInvalidManifest,
                  fmt::format("files: must be a list of 1 to {} files", kMaxFiles));
  }
  std::vector<ArtifactFile> files;
  for (const Json& item : *json) {
    ArtifactFile file;
    JsonReader reader(item, "files", reason::kInvalidManifest);
    reader.text("path", file.path)
        .text("sha256", file.sha256)
        .integer("size", file.size, 0, INT64_MAX);
    TRY(reader.finish());
    TRY(check_artifact_path(file.path));
    if (!is_sha256(file.sha256)) {
      return refuse(reason::kInvalidManifest,
                    fmt::format("files: '{}' has no SHA-256 digest", file.path));
    }
    files.push_back(std::move(file));
  }
  std::ranges::sort(files, {}, &ArtifactFile::path);
  if (std::ranges::adjacent_find(files, {}, &ArtifactFile::path) != files.end()) {
    return refuse(reason::kInvalidManifest, "files: a path is listed twice");
  }
  return files;
}

}  // namespace

std::string_view to_string(Isolation isolation) {
  return isolation == Isolation::Request ? "request" : "instance";
}

Status check_artifact_path(std::string_view path) {
  const auto bad = [&](std::string_view why) {
    return refuse(reason::kInvalidManifest, fmt::format("file path '{}': {}", path, why));
  };
  if (path.empty() || path.size() > 1024) return bad("must have 1 to 1024 characters");
  if (std::ranges::any_of(path,
                          [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; })) {
    return bad("has control characters");
  }
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view component = path.substr(begin, end - begin);
    if (component.empty() || component == "." || component == "..") {
      return bad("must be relative and stay inside the folder");
    }
    begin = end + 1;
  }
  return {};
}

Result<VersionOptions> parse_version_options(std::string_view text) {
  const Json json = TRY(parse_json(text, "options"));
  VersionOptions options;
  JsonReader reader(json, "options", reason::kInvalidManifest);
  read_options(reader, options);
  TRY(reader.finish());
  return options;
}

std::string to_json(const Manifest& manifest) {
  Json json{{"format", 1},
            {"options", options_json(manifest.options)},
            {"files", files_json(manifest.files)},
            {"inputs", specs_json(manifest.signature.inputs)},
            {"outputs", specs_json(manifest.signature.outputs)},
            {"session_after_fork", manifest.session_after_fork}};
  if (manifest.documents) json["documents"] = true;
  if (manifest.streams) json["streams"] = true;
  if (!manifest.environment.digest.empty()) {
    json["environment"] = {{"digest", manifest.environment.digest},
                           {"lock", manifest.environment.lock}};
  }
  return json.dump();
}

Result<std::vector<ArtifactFile>> parse_artifact_files(std::string_view text) {
  const Json json = TRY(parse_json(text, "files"));
  return read_files(&json);
}

Result<Manifest> parse_manifest(std::string_view text) {
  const Json json = TRY(parse_json(text, "manifest"));
  Manifest manifest;
  std::uint64_t format = 0;
  JsonReader reader(json, "manifest", reason::kInvalidManifest);
  reader.integer("format", format, 1, 1)
      .boolean("session_after_fork", manifest.session_after_fork)
      .boolean("documents", manifest.documents)
      .boolean("streams", manifest.streams);
  const Json* options = reader.value("options");
  const Json* files = reader.value("files");
  const Json* inputs = reader.value("inputs");
  const Json* outputs = reader.value("outputs");
  const Json* environment = reader.value("environment");
  TRY(reader.finish());
  if (environment != nullptr) manifest.environment = TRY(read_environment(*environment));
  if (format != 1 || options == nullptr) {
    return refuse(reason::kInvalidManifest, "manifest: 'format' and 'options' are required");
  }
  JsonReader options_reader(*options, "manifest options", reason::kInvalidManifest);
  read_options(options_reader, manifest.options);
  TRY(options_reader.finish());
  manifest.files = TRY(read_files(files));
  manifest.signature.inputs = TRY(read_specs(inputs));
  manifest.signature.outputs = TRY(read_specs(outputs));
  return manifest;
}

std::string sha256_hex(std::string_view bytes) {
  std::array<unsigned char, 32> digest{};
  unsigned int length = 0;
  const int done =
      EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr);
  CHECK(done == 1 && length == digest.size());
  std::string text;
  for (const unsigned char byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

std::string artifact_digest(const std::vector<ArtifactFile>& files) {
  return sha256_hex(files_json(files).dump());
}

}  // namespace mayfly
