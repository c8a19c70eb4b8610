#include "registry/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/check.h"
#include "core/reason.h"

namespace mayfly {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kParsedManifests = 512;

// Most functions never change a setting: they share one object.
std::shared_ptr<const FunctionSettings> shared_settings(const FunctionSettings& settings) {
  static const auto kDefaults = std::make_shared<const FunctionSettings>();
  if (settings == *kDefaults) return kDefaults;
  return std::make_shared<const FunctionSettings>(settings);
}

Result<Digest> digest_of(std::string_view hex) {
  const auto digest = parse_digest(hex);
  if (!digest) return refuse(reason::kInvalidManifest, fmt::format("'{}' is no SHA-256", hex));
  return *digest;
}

Result<std::vector<Digest>> blobs_of(const Manifest& manifest) {
  std::vector<Digest> blobs;
  for (const ArtifactFile& file : manifest.files) blobs.push_back(TRY(digest_of(file.sha256)));
  return blobs;
}

// The entry with one change; versions stay sorted because numbers only grow.
FunctionTable::Entry changed(const FunctionEntry& entry,
                             const std::function<void(FunctionEntry&)>& edit) {
  auto copy = std::make_shared<FunctionEntry>(entry);
  edit(*copy);
  copy->versions.shrink_to_fit();
  return copy;
}

}  // namespace

Registry::Registry(RegistryDb db, const Clock& clock)
    : clock_(clock),
      db_(std::move(db)),
      snapshot_(std::make_shared<const FunctionTable>()),
      manifests_(kParsedManifests) {}

Result<std::unique_ptr<Registry>> Registry::open(const Path& database, const Clock& clock) {
  RegistryDb db = TRY(RegistryDb::open(database));
  std::unique_ptr<Registry> registry(new Registry(std::move(db), clock));
  TRY(registry->load());
  return registry;
}

Status Registry::load() {
  const std::scoped_lock lock(writer_);
  std::map<std::int64_t, std::shared_ptr<FunctionEntry>> by_id;
  const auto functions = TRY(db_.live_functions());
  for (const FunctionRow& row : functions) {
    FunctionName name = TRY(FunctionName::parse(row.name));
    const FunctionSettings settings = TRY(parse_settings(row.settings));
    by_id[row.id] =
        std::make_shared<FunctionEntry>(FunctionEntry{.name = std::move(name),
                                                      .id = row.id,
                                                      .created = row.created,
                                                      .current = {row.current},
                                                      .settings = shared_settings(settings),
                                                      .versions = {}});
  }
  TRY(db_.for_each_version([&](const VersionRow& row) -> Status {
    by_id.at(row.function)->versions.push_back({{row.number}, content(row.manifest, row.artifact)});
    return {};
  }));
  std::vector<FunctionTable::Entry> entries;
  entries.reserve(by_id.size());
  for (auto& [id, entry] : by_id) {
    if (entry->find(entry->current) == nullptr) {
      return fail(Code::DataLoss, fmt::format("registry: the current version of '{}' is missing",
                                              entry->name.str()));
    }
    entry->versions.shrink_to_fit();
    entries.push_back(std::move(entry));
  }
  publish(FunctionTable(std::move(entries), TRY(db_.last_sequence())));
  return {};
}

Registry::Snapshot Registry::snapshot() const {
  const std::scoped_lock lock(snapshot_mutex_);
  return snapshot_;
}

void Registry::on_publish(std::function<void(Snapshot)> listener) {
  const std::scoped_lock lock(writer_);
  listener_ = std::move(listener);
}

void Registry::publish(FunctionTable table) {
  auto next = std::make_shared<const FunctionTable>(std::move(table));
  {
    const std::scoped_lock lock(snapshot_mutex_);
    snapshot_ = next;
  }
  if (listener_) listener_(std::move(next));
}

Result<FunctionTable::Entry> Registry::need(const FunctionName& function) const {
  auto entry = snapshot()->find(function.str());
  if (!entry) {
    return refuse(reason::kUnknownFunction, fmt::format("no function '{}'", function.str()));
  }
  return entry;
}

std::shared_ptr<const VersionContent> Registry::content(const Digest& manifest,
                                                        const Digest& artifact) {
  std::weak_ptr<const VersionContent>& known = contents_[manifest];
  auto shared = known.lock();
  if (!shared) known = shared = std::make_shared<const VersionContent>(manifest, artifact);
  return shared;
}

Result<std::uint64_t> Registry::record(const FunctionName& function, std::string_view kind,
                                       std::string detail, const Author& author) {
  return db_.append_change({.sequence = 0,
                            .time = clock_.wall_now(),
                            .who = author.who,
                            .function = function.str(),
                            .kind = std::string(kind),
                            .detail = std::move(detail)});
}

Result<VersionNumber> Registry::deploy(const Deployment& deployment, const Author& author) {
  const std::string json = to_json(deployment.manifest);
  const Digest manifest = sha256(json);
  const Digest artifact = TRY(digest_of(artifact_digest(deployment.manifest.files)));
  const std::vector<Digest> blobs = TRY(blobs_of(deployment.manifest));

  const std::scoped_lock lock(writer_);
  const FunctionName& name = deployment.function;
  const Snapshot before = snapshot();
  const FunctionTable::Entry existing = before->find(name.str());
  const WallTime now = clock_.wall_now();

  Transaction transaction = TRY(Transaction::begin(db_.database()));
  const std::uint32_t number = TRY(db_.take_number(name.str()));
  std::int64_t id = existing ? existing->id : 0;
  if (!existing) {
    id = TRY(db_.insert_function({.id = 0,
                                  .name = name.str(),
                                  .created = now,
                                  .current = number,
                                  .settings = to_json(FunctionSettings{})},
                                 author.who));
  }
  TRY(db_.insert_manifest(manifest, json, artifact, blobs));
  TRY(db_.insert_version({.function = id,
                          .number = number,
                          .manifest = manifest,
                          .artifact = artifact,
                          .created = now,
                          .deployed_by = author.who,
                          .report = deployment.report}));
  TRY(db_.set_current(id, number));
  const Json detail{{"version", number}, {"manifest", to_string(manifest)}, {"why", author.why}};
  const std::uint64_t sequence = TRY(record(name, "deploy", detail.dump(), author));
  TRY(transaction.commit());

  const FunctionEntry fresh{.name = name,
                            .id = id,
                            .created = now,
                            .current = {number},
                            .settings = shared_settings({}),
                            .versions = {}};
  publish(before->with(changed(existing ? *existing : fresh,
                               [&](FunctionEntry& entry) {
                                 entry.versions.push_back({{number}, content(manifest, artifact)});
                                 entry.current = {number};
                               }),
                       sequence));
  return VersionNumber{number};
}

Result<FunctionSettings> Registry::configure(const FunctionName& function,
                                             std::string_view changes_json, const Author& author) {
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = TRY(need(function));
  const FunctionSettings after = TRY(apply_settings(*entry->settings, changes_json));
  if (after == *entry->settings) return after;

  const std::string json = to_json(after);
  const Json detail{{"before", Json::parse(to_json(*entry->settings))},
                    {"after", Json::parse(json)},
                    {"why", author.why}};
  Transaction transaction = TRY(Transaction::begin(db_.database()));
  TRY(db_.set_settings(entry->id, json));
  const std::uint64_t sequence = TRY(record(function, "configure", detail.dump(), author));
  TRY(transaction.commit());
  publish(snapshot()->with(
      changed(*entry, [&](FunctionEntry& next) { next.settings = shared_settings(after); }),
      sequence));
  return after;
}

Status Registry::point(const FunctionName& function, VersionNumber version, const Author& author) {
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = TRY(need(function));
  TRY(snapshot()->resolve({.function = function, .version = version}));
  if (entry->current == version) return {};

  const Json detail{{"from", entry->current.value}, {"to", version.value}, {"why", author.why}};
  Transaction transaction = TRY(Transaction::begin(db_.database()));
  TRY(db_.set_current(entry->id, version.value));
  const std::uint64_t sequence = TRY(record(function, "point", detail.dump(), author));
  TRY(transaction.commit());
  publish(snapshot()->with(changed(*entry, [&](FunctionEntry& next) { next.current = version; }),
                           sequence));
  return {};
}

Status Registry::remove(const FunctionName& function, const Author& author) {
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = TRY(need(function));
  Transaction transaction = TRY(Transaction::begin(db_.database()));
  TRY(db_.mark_deleted(entry->id, clock_.wall_now()));
  const Json detail{{"why", author.why}};
  const std::uint64_t sequence = TRY(record(function, "delete", detail.dump(), author));
  TRY(transaction.commit());
  publish(snapshot()->without(function.str(), sequence));
  return {};
}

Result<std::vector<VersionRow>> Registry::versions(const FunctionName& function) {
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = TRY(need(function));
  return db_.versions_of(entry->id);
}

Result<std::vector<Change>> Registry::history(const FunctionName& function, std::uint32_t limit) {
  const std::scoped_lock lock(writer_);
  return db_.changes_of(function.str(), limit);
}

Result<std::vector<Change>> Registry::changes_after(std::uint64_t sequence, std::uint32_t limit) {
  const std::scoped_lock lock(writer_);
  return db_.changes_after(sequence, limit);
}

std::shared_ptr<const Manifest> Registry::cached_manifest(const Digest& digest) {
  return manifests_.find(digest);
}

Result<std::shared_ptr<const Manifest>> Registry::manifest(const Digest& digest) {
  if (auto cached = manifests_.find(digest)) return cached;
  std::optional<std::string> json;
  {
    const std::scoped_lock lock(writer_);
    json = TRY(db_.manifest_json(digest));
  }
  if (!json) return fail(Code::NotFound, fmt::format("no manifest {}", to_string(digest)));
  if (sha256(*json) != digest) {
    return fail(Code::DataLoss, fmt::format("manifest {} is damaged", to_string(digest)));
  }
  auto parsed = parse_manifest(*json);
  if (!parsed) {
    return std::unexpected(
        std::move(parsed).error().in(fmt::format("manifest {}", to_string(digest))));
  }
  auto shared = std::make_shared<const Manifest>(*std::move(parsed));
  manifests_.insert(digest, shared);
  return shared;
}

std::vector<FunctionVersion> Registry::superseded_versions() const {
  std::vector<FunctionVersion> versions;
  for (const auto& entry : snapshot()->all()) {
    for (const VersionNumber number : superseded(*entry)) versions.push_back({entry->name, number});
  }
  return versions;
}

Result<std::vector<FunctionVersion>> Registry::retire(const std::vector<FunctionVersion>& versions,
                                                      const Author& author) {
  const std::scoped_lock lock(writer_);
  std::map<std::string, FunctionTable::Entry> edited;
  std::vector<FunctionVersion> retired;
  const Snapshot before = snapshot();
  std::uint64_t sequence = before->sequence();
  Transaction transaction = TRY(Transaction::begin(db_.database()));
  for (const auto& [function, number] : versions) {
    FunctionTable::Entry& entry = edited[function.str()];
    if (!entry) entry = before->find(function.str());
    // Deleted, or pointed at again, since the list was made.
    if (!entry || entry->current == number || entry->find(number) == nullptr) continue;
    TRY(db_.delete_version(entry->id, number.value));
    const Json detail{{"version", number.value}, {"why", author.why}};
    sequence = TRY(record(function, "retire", detail.dump(), author));
    entry = changed(*entry, [&](FunctionEntry& next) {
      std::erase_if(next.versions, [&](const VersionEntry& v) { return v.number == number; });
    });
    retired.push_back({function, number});
  }
  TRY(db_.purge());
  TRY(transaction.commit());
  FunctionTable table = *before;
  for (auto& [name, entry] : edited) {
    if (entry) table = table.with(std::move(entry), sequence);
  }
  if (sequence != before->sequence()) publish(std::move(table));
  std::erase_if(contents_, [](const auto& item) { return item.second.expired(); });
  return retired;
}

Result<LiveContent> Registry::live_content(const std::vector<FunctionVersion>& without) {
  std::set<std::pair<std::string, VersionNumber>> skipped;
  for (const auto& [function, number] : without) skipped.emplace(function.str(), number);
  const std::scoped_lock lock(writer_);
  LiveContent live;
  std::unordered_set<Digest> manifests;
  for (const auto& entry : snapshot()->all()) {
    for (const VersionEntry& version : entry->versions) {
      if (skipped.contains({entry->name.str(), version.number})) continue;
      manifests.insert(version.content->manifest);
      live.artifacts.insert(version.content->artifact);
    }
  }
  TRY(db_.for_each_blob([&](const Digest& manifest, const Digest& blob) -> Status {
    if (manifests.contains(manifest)) live.blobs.insert(blob);
    return {};
  }));
  return live;
}

Status Registry::copy_to(const Path& path) {
  const std::scoped_lock lock(writer_);
  return db_.database().copy_to(path);
}

}  // namespace mayfly
