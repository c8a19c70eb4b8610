#include "serving/model_repository.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "core/json_reader.h"
#include "core/project.h"
#include "core/reason.h"
#include "serving/measured.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxConfig = 64 * 1024;

constexpr std::string_view kFile = "file:";
constexpr std::string_view kPlatform = "onnxruntime_onnx";
constexpr std::string_view kBackend = "onnxruntime";

std::unexpected<Error> refuse_config(std::string_view key) {
  return refuse(reason::kUnsupported,
                fmt::format("config: '{}' cannot be overridden by loading; what a version is comes "
                            "from its mayfly.toml, see `mayfly deploy`",
                            key));
}

Status must_be(std::string_view key, const std::string& value, std::string_view expected) {
  if (value.empty() || value == expected) return {};
  return refuse(reason::kUnsupported,
                fmt::format("config: '{}' is '{}', this server has '{}'", key, value, expected));
}

// The few keys that say what is so anyway, and the name of the model's file.
Result<VersionOptions> options_of(const ModelRepository::Load& request) {
  VersionOptions options;
  if (!request.config) return options;
  const Json config = TRY(parse_json(*request.config, "config"));
  if (!config.is_object()) return refuse(reason::kBadRequest, "config: must be a JSON object");
  for (const auto& [key, value] : config.items()) {
    if (key == "max_batch_size" && value == 0) continue;
    const std::string text = value.is_string() ? value.get<std::string>() : "";
    if (!value.is_string()) return refuse_config(key);
    if (key == "name") {
      TRY(must_be(key, text, std::string(local_name(request.name))));
    } else if (key == "platform") {
      TRY(must_be(key, text, kPlatform));
    } else if (key == "backend") {
      TRY(must_be(key, text, kBackend));
    } else if (key == "default_model_filename") {
      options.model = text;
    } else {
      return refuse_config(key);
    }
  }
  return options;
}

// "file:1/weights/a.bin" → {"1", "weights/a.bin"}.
Result<std::pair<std::string, std::string>> split_path(std::string_view path) {
  std::string_view rest = path;
  if (rest.starts_with(kFile)) rest.remove_prefix(kFile.size());
  const std::size_t slash = rest.find('/');
  if (slash != std::string_view::npos) {
    const std::string_view version = rest.substr(0, slash);
    const std::string_view inside = rest.substr(slash + 1);
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (!version.empty() && std::ranges::all_of(version, is_digit) && check_artifact_path(inside)) {
      return std::pair{std::string(version), std::string(inside)};
    }
  }
  return refuse(reason::kBadRequest,
                fmt::format("'{}' does not name a file as in file:1/model.onnx", path));
}

// The protocol's version folder is cut off: numbers are given by the registry.
Status cut_version(std::vector<ModelRepository::LoadedFile>& files) {
  std::string version;
  for (ModelRepository::LoadedFile& file : files) {
    auto [number, inside] = TRY(split_path(file.path));
    if (!version.empty() && version != number) {
      return refuse(reason::kUnsupported,
                    fmt::format("the files are of versions {} and {}; load one version at a time",
                                version, number));
    }
    version = std::move(number);
    file.path = std::move(inside);
  }
  std::ranges::sort(files, {}, &ModelRepository::LoadedFile::path);
  return {};
}

Result<BlobInfo> keep_bytes(BlobStore& blobs, std::string_view bytes) {
  const auto writer = TRY(blobs.create());
  TRY(writer->append(std::as_bytes(std::span(bytes))));
  return writer->commit();
}

}  // namespace

std::vector<ModelRepository::Model> ModelRepository::index() const {
  std::vector<Model> models;
  for (const auto& function : parts_.catalog.table()->all()) {
    for (const VersionEntry& version : function->versions)
      models.push_back({function->name.str(), version.number});
  }
  return models;
}

Task<Status> ModelRepository::load(Load request) {
  if (request.config && request.config->size() > kMaxConfig) {
    co_return refuse(reason::kTooLarge, fmt::format("config: {} bytes are more than {}",
                                                    request.config->size(), kMaxConfig));
  }
  CO_TRY(VersionOptions options, options_of(request));
  if (!request.files.empty()) {
    CO_TRY_STATUS(cut_version(request.files));
    co_return co_await deploy(std::move(request), std::move(options));
  }
  if (request.config) {
    co_return refuse(reason::kUnsupported,
                     "a version's configuration is fixed when it is deployed; load its files with "
                     "it (file:1/model.onnx), or use `mayfly deploy` and `mayfly configure`");
  }
  co_return co_await start(std::move(request.name));
}

Task<Status> ModelRepository::start(std::string name) {
  CO_TRY(const ServingRef serving, co_await parts_.catalog.find(name, ""));
  co_return co_await parts_.dispatcher.warm(serving->runtime, serving->settings, serving->sequence);
}

Task<Result<std::vector<SourceFile>>> ModelRepository::store(std::vector<LoadedFile> files,
                                                             std::string project, Pin& pin) {
  std::vector<SourceFile> stored;
  const Bytes limit = parts_.quotas.stored_limit(project);
  for (LoadedFile& file : files) {
    pin.add(co_await parts_.pool.run([&] { return parse_digest(sha256_hex(file.bytes)).value(); }));
    CO_TRY(const BlobInfo blob, co_await parts_.pool.run([&]() -> Result<BlobInfo> {
      const Digest slot = parts_.owners.fresh_slot();
      TRY(parts_.owners.reserve({.project = project,
                                 .slot = slot,
                                 .size = Bytes{file.bytes.size()},
                                 .kind = BlobOwners::Upload::Kind::Fresh},
                                limit));
      const auto kept = keep_bytes(parts_.blobs, file.bytes);
      if (kept) {
        TRY(parts_.owners.add(project, *kept, slot));
      } else {
        TRY(parts_.owners.release(slot));
      }
      return kept;
    }));
    stored.push_back({.file = {.path = std::move(file.path),
                               .sha256 = to_string(blob.digest),
                               .size = blob.size},
                      .blobs = &parts_.blobs});
    file.bytes = std::string();
  }
  co_return stored;
}

Task<Status> ModelRepository::deploy(Load request, VersionOptions options) {
  CO_TRY(const FunctionName name, FunctionName::parse(request.name));
  Pin pin = parts_.pins.hold({});
  CO_TRY(std::vector<SourceFile> files,
         co_await store(std::move(request.files), std::string(project_of(name.str())), pin));
  std::vector<ArtifactFile> listed;
  for (const SourceFile& file : files) listed.push_back(file.file);
  pin.add(parse_digest(artifact_digest(listed)).value());

  PublishRequest publishing{.label = name.str(),
                            .files = std::move(files),
                            .options = std::move(options),
                            .cancel = request.cancel};
  const TimePoint begun = parts_.loop.now();
  auto published = co_await parts_.publisher.publish(std::move(publishing),
                                                     [](std::string_view, std::string_view) {});
  parts_.metrics.published(parts_.loop.now() - begun, published.has_value());
  if (!published) co_return std::unexpected(std::move(published).error());
  Deployment deployment{.function = name,
                        .manifest = published->manifest,
                        .report = measured_json(*published),
                        .traffic = {}};
  const Author author{.who = request.who, .why = "load"};
  CO_TRY(const TrafficSwitch::Introduced made,
         co_await parts_.traffic.introduce(std::move(deployment), author));
  LOG(info, "version deployed", {"function", name.str()}, {"version", made.number.value});
  co_return Status{};
}

Status ModelRepository::unload(std::string_view name) const {
  const ResolvedVersion resolved = TRY(parts_.catalog.resolve(name, ""));
  const FunctionId function{static_cast<std::uint64_t>(resolved.function->id)};
  const ModelRef ref = TRY(parse_model_ref(name));
  if (ref.names_version()) {
    parts_.dispatcher.evict(VersionKey{function, resolved.version->number.value});
  } else {
    parts_.dispatcher.evict(function);
  }
  return {};
}

}  // namespace mayfly
