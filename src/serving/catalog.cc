#include "serving/catalog.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "core/project.h"
#include "core/reason.h"
#include "runner/report/report.h"
#include "serving/measured.h"

namespace mayfly {
namespace {

// A name and a version as a request spells them. No name holds what stands between: a '/' would
// make one project's version of another project's function.
std::string spelling(std::string_view name, std::string_view version) {
  return version.empty() ? std::string(name) : fmt::format("{}\n{}", name, version);
}

constexpr std::size_t kCached = 1024;
constexpr Bytes kTemplateRoom = mib(256);
constexpr Bytes kScratch = mib(64);
constexpr Bytes kRuntimeBytes = mib(10);  // of ONNX Runtime's own heap in a template

// An environment template is there to be forked, and is of no use to what cannot be.
bool forks_with_packages(const VersionRuntime& version) {
  return version.kind == RuntimeKind::Python && !version.environment.empty() &&
         version.threads == 1 && !version.session_after_fork;
}

}  // namespace

Catalog::Catalog(Parts parts, CancelToken stop, EnvironmentPolicy environments)
    : registry_(parts.registry),
      blobs_(parts.blobs),
      publisher_(parts.publisher),
      pool_(parts.read_pool),
      quotas_(parts.quotas),
      stop_(stop),
      environments_(environments),
      table_(parts.registry.snapshot()) {}

void Catalog::publish(Registry::Snapshot table) {
  if (table->sequence() > table_->sequence()) table_ = std::move(table);
}

bool Catalog::still_has(const Serving& serving) const {
  const FunctionTable::Entry entry = table_->find(serving.function);
  return entry && static_cast<std::uint64_t>(entry->id) == serving.runtime->key.function.value;
}

Result<ModelRef> Catalog::reference(std::string_view name, std::string_view version) {
  ModelRef ref = TRY(parse_model_ref(name));
  if (version.empty()) return ref;
  const VersionNumber number = TRY(parse_version_number(version));
  if (!ref.alias.empty() || (ref.version && *ref.version != number)) {
    return refuse(reason::kBadRequest,
                  fmt::format("'{}' and version {} contradict each other", name, number.value));
  }
  ref.version = number;
  return ref;
}

Result<ResolvedVersion> Catalog::resolve(std::string_view name, std::string_view version) const {
  return table_->resolve(TRY(reference(name, version)));
}

Task<Result<ServingRef>> Catalog::find(std::string_view name, std::string_view version,
                                       RequestKey key) {
  std::string spelled = spelling(name, version);
  const auto cached = cache_.find(spelled);
  if (cached != cache_.end() && cached->second.sequence == table_->sequence())
    co_return cached->second.serving;
  const std::uint64_t sequence = table_->sequence();
  CO_TRY(const ModelRef ref, reference(name, version));
  CO_TRY(ResolvedVersion resolved, table_->resolve(ref));
  const Traffic& traffic = resolved.function->routing->traffic;
  if (resolved.function->routing->waiting && !ref.names_version()) {
    const std::string_view plain = local_name(resolved.function->name.str());
    co_return refuse(
        reason::kUnknownVersion,
        fmt::format("no version of {0} gets its requests yet: mayfly traffic {0} {1}=100 "
                    "gives them to version {1}, and {0}@{1} answers by that name",
                    plain, resolved.version->number.value));
  }
  if (traffic.split() && !ref.names_version()) {
    // Not kept under its spelling: the next request may go elsewhere.
    if (key) {
      const VersionNumber chosen = choose(traffic.weights, key(traffic.sticky_header));
      resolved.version = resolved.function->find(chosen);
      CHECK(resolved.version != nullptr);  // the registry checks what it keeps
    }
    co_return co_await find(resolved);
  }
  CO_TRY(ServingRef serving, co_await find(resolved));
  keep(std::move(spelled), serving, sequence);
  co_return serving;
}

Task<Result<ServingRef>> Catalog::find(ResolvedVersion resolved) {
  const std::uint64_t sequence = table_->sequence();
  const std::string label =
      fmt::format("{}@{}", resolved.function->name.str(), resolved.version->number.value);
  const auto cached = cache_.find(label);
  if (cached != cache_.end()) {
    const Serving& serving = *cached->second.serving;
    // The same life of the name, the same settings: nothing that a serving is made of has changed.
    if (serving.runtime->key.function.value == static_cast<std::uint64_t>(resolved.function->id) &&
        serving.settings == resolved.function->settings &&
        serving.routing == resolved.function->routing) {
      cached->second.sequence = sequence;
      co_return cached->second.serving;
    }
  }
  CO_TRY(ServingRef serving, co_await make(resolved, sequence));
  keep(label, serving, sequence);
  co_return serving;
}

Task<Result<ServingRef>> Catalog::make(ResolvedVersion resolved, std::uint64_t sequence) {
  const Digest digest = resolved.version->content->manifest;
  std::shared_ptr<const Manifest> manifest = registry_.cached_manifest(digest);
  if (!manifest) {
    CO_TRY(manifest, co_await pool_.run([&] { return registry_.manifest(digest); }));
  }
  const FunctionName name = resolved.function->name;
  CO_TRY(const std::vector<VersionRow> rows,
         co_await pool_.run([&] { return registry_.versions(name); }));
  const auto row = std::ranges::find(rows, resolved.version->number.value, &VersionRow::number);
  const Measured measured = parse_measured(row == rows.end() ? "{}" : row->report);
  std::string label = fmt::format("{}@{}", name.str(), resolved.version->number.value);

  auto runtime = std::make_shared<VersionRuntime>();
  runtime->key = {FunctionId{static_cast<std::uint64_t>(resolved.function->id)},
                  resolved.version->number.value};
  runtime->label = label;
  runtime->signature = std::shared_ptr<const Signature>(manifest, &manifest->signature);
  runtime->share = quotas_.memory_of(project_of(name.str()));
  runtime->kind = is_python(manifest->options) ? RuntimeKind::Python : RuntimeKind::Onnx;
  runtime->environment = publisher_.environment_of(*manifest);
  runtime->isolation = manifest->options.isolation;
  // Files of one prediction would be seen by the next.
  if (is_python(manifest->options) && runtime->isolation == Isolation::Instance)
    runtime->scratch = kScratch;
  runtime->batching = manifest->options.batching;
  runtime->threads = manifest->options.threads;
  runtime->session_after_fork = manifest->session_after_fork;
  runtime->streams = manifest->streams;
  runtime->calls = !manifest->options.function.calls.empty();
  if (environments_ == EnvironmentPolicy::Kept && forks_with_packages(*runtime)) {
    FunctionOptions options;
    options.env = manifest->options.function.env;
    runtime->environment_options = to_json(options);
    runtime->environment_key =
        fmt::format("{}\n{}\n{}\n{}", project_of(name.str()), runtime->environment.native(),
                    runtime->scratch.count, runtime->environment_options);
    runtime->imports = [this, manifest, label] { return imports(manifest, label); };
  }
  runtime->memory = manifest->options.memory;
  // Weights twice: mapped, and prepacked where that was chosen.
  runtime->template_memory =
      manifest->options.memory + Bytes{2 * measured.artifact_bytes} + kTemplateRoom;
  runtime->instance_bytes = measured.private_bytes;
  runtime->template_bytes = measured.private_bytes + kRuntimeBytes;
  runtime->build_time = measured.load;
  runtime->artifact = [this, manifest, label] { return artifact(manifest, label); };
  if (const auto& names = manifest->options.function.secrets; !names.empty()) {
    runtime->secret_names = names;
    runtime->secrets = [this, manifest, label] {
      return publisher_.secrets_for(label, manifest->options, pool_);
    };
  }
  co_return std::make_shared<const Serving>(Serving{.function = name.str(),
                                                    .version = resolved.version->number,
                                                    .manifest = manifest,
                                                    .settings = resolved.function->settings,
                                                    .routing = resolved.function->routing,
                                                    .sequence = sequence,
                                                    .runtime = std::move(runtime),
                                                    .output_bytes = measured.output_bytes});
}

// Empty: published before imports were noted, or there were none.
Task<Result<std::string>> Catalog::imports(std::shared_ptr<const Manifest> manifest,
                                           std::string label) {
  CO_TRY(const Path folder, co_await publisher_.compiled_for(std::move(label), *manifest, pool_));
  const Path file = folder / kImportsFile;
  co_return co_await pool_.run([&] { return read_file(file, kMostImports); });
}

Task<Result<Path>> Catalog::artifact(std::shared_ptr<const Manifest> manifest, std::string label) {
  auto compiled = co_await publisher_.compiled_for(label, *manifest, pool_);
  if (compiled || compiled.error().code != Code::NotFound) co_return compiled;
  std::vector<SourceFile> files;
  for (const ArtifactFile& file : manifest->files) {
    files.push_back({.file = file, .blobs = &blobs_});
  }
  co_return co_await publisher_.rebuilt_for(std::move(label), *manifest, std::move(files), stop_);
}

void Catalog::forget(std::string_view function) {
  std::erase_if(recent_, [&](const std::string& key) {
    const auto kept = cache_.find(key);
    if (kept->second.serving->function != function) return false;
    cache_.erase(kept);
    return true;
  });
}

void Catalog::keep(std::string key, ServingRef serving, std::uint64_t sequence) {
  const auto found = cache_.find(key);
  if (found != cache_.end()) {
    if (found->second.sequence > sequence) return;  // made meanwhile, by a newer table
    recent_.erase(found->second.place);
    cache_.erase(found);
  }
  recent_.push_front(key);
  cache_.emplace(std::move(key), Cached{sequence, std::move(serving), recent_.begin()});
  if (recent_.size() > kCached) {
    cache_.erase(recent_.back());
    recent_.pop_back();
  }
}

}  // namespace mayfly
