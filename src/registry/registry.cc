#include "registry/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "core/project.h"
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

std::shared_ptr<const Routing> shared_routing(Routing routing) {
  if (routing == *plain_routing()) return plain_routing();
  return std::make_shared<const Routing>(std::move(routing));
}

void set_alias(Routing& routing, std::string_view name, VersionNumber version) {
  std::erase_if(routing.aliases, [&](const Alias& alias) { return alias.name == name; });
  routing.aliases.push_back({.name = std::string(name), .version = version});
  std::ranges::sort(routing.aliases, {}, &Alias::name);
}

Status check_exist(const FunctionEntry& function, const Traffic& traffic) {
  for (const auto* shares : {&traffic.weights, &traffic.shadows}) {
    for (const VersionShare& share : *shares) {
      if (function.find(share.version) != nullptr) continue;
      return refuse(reason::kUnknownVersion, fmt::format("function '{}' has no version {}",
                                                         function.name.str(), share.version.value));
    }
  }
  return {};
}

// Who gets the requests, for the history.
Json shares_json(VersionNumber champion, Traffic traffic) {
  if (!traffic.split()) traffic.weights = {{champion, kWholeTraffic}};
  Json shares{{"champion", champion.value}};
  shares.update(Json::parse(to_json(traffic)));
  return shares;
}

// `seen` is null where anything will do.
Status check_as_seen(const FunctionEntry& function, const FunctionEntry* seen) {
  const bool same =
      seen == nullptr || (function.id == seen->id && function.current == seen->current &&
                          function.routing->traffic == seen->routing->traffic);
  if (same) return {};
  return refuse(reason::kConflict,
                fmt::format("the traffic of {} was changed meanwhile", function.name.str()));
}

// With `champion` as the only version that gets traffic.
Routing all_to(const FunctionEntry& function, VersionNumber champion) {
  Routing routing = *function.routing;
  routing.traffic.weights.clear();
  routing.traffic.shadows.clear();
  routing.waiting = false;
  if (champion != function.current) set_alias(routing, kPrevious, function.current);
  return routing;
}

Routing with_canary(const FunctionEntry& function, VersionNumber canary, std::uint32_t percent) {
  Routing routing = *function.routing;
  routing.traffic.weights = {{function.current, kWholeTraffic - percent}, {canary, percent}};
  routing.waiting = false;
  return routing;
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
    std::shared_ptr<const Routing> routing = plain_routing();
    if (!row.routing.empty()) routing = shared_routing(TRY(parse_routing(row.routing)));
    by_id[row.id] =
        std::make_shared<FunctionEntry>(FunctionEntry{.name = std::move(name),
                                                      .id = row.id,
                                                      .created = row.created,
                                                      .current = {row.current},
                                                      .settings = shared_settings(settings),
                                                      .versions = {},
                                                      .routing = std::move(routing)});
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
    if (const Status exist = check_exist(*entry, entry->routing->traffic); !exist) {
      return fail(Code::DataLoss, fmt::format("registry: traffic: {}", exist.error().message));
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

// `percent` of the requests can be given to a new version. `existing`: null where it is the first.
Status Registry::check_share(const FunctionTable::Entry& existing, std::uint32_t percent) {
  if (percent > kWholeTraffic) return refuse(reason::kInvalidTraffic, "a canary gets 1 to 99 %");
  if (!existing || percent == 0 || percent == kWholeTraffic) return {};
  if (!existing->routing->traffic.split()) return {};
  return refuse(reason::kConflict,
                fmt::format("the traffic of {0} is split already; end that first: mayfly traffic "
                            "{0}, mayfly rollback {0}",
                            existing->name.str()));
}

// What a training became, where it became a version before. nullopt: nothing.
Result<std::optional<VersionNumber>> Registry::number_of(const FunctionTable::Entry& existing,
                                                         const Deployment& deployment) {
  if (!existing || !deployment.training || deployment.training->job.empty()) return std::nullopt;
  const auto made = TRY(db_.number_of_job(existing->id, deployment.training->job));
  return made ? std::optional(VersionNumber{*made}) : std::nullopt;
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
  if (const auto made = TRY(number_of(existing, deployment))) return *made;
  const bool waits = !existing && deployment.traffic.first == DeployTraffic::First::Waits;
  const std::uint32_t percent = existing ? deployment.traffic.percent : waits ? 0 : kWholeTraffic;
  TRY(check_share(existing, percent));

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
                          .report = deployment.report,
                          .provenance = deployment.provenance}));
  if (deployment.training) TRY(db_.insert_training(id, number, *deployment.training));
  const FunctionEntry fresh{.name = name,
                            .id = id,
                            .created = now,
                            .current = {number},
                            .settings = shared_settings({}),
                            .versions = {}};
  const FunctionEntry& was = existing ? *existing : fresh;
  const VersionNumber champion = percent == kWholeTraffic ? VersionNumber{number} : was.current;
  Routing routing = percent == kWholeTraffic ? all_to(was, champion)
                    : percent == 0           ? *was.routing
                                             : with_canary(was, {number}, percent);
  if (waits) routing.waiting = true;
  TRY(db_.set_current(id, champion.value));
  if (routing != *was.routing) TRY(db_.set_routing(id, to_json(routing)));
  Json detail{{"version", number},
              {"traffic", fmt::format("{} %", percent)},
              {"manifest", to_string(manifest)},
              {"why", author.why}};
  const Traffic& shared = was.routing->traffic;
  if (percent == kWholeTraffic && (shared.split() || !shared.shadows.empty()))
    detail["ended"] = shares_json(was.current, shared);
  const std::uint64_t sequence = TRY(record(name, "deploy", detail.dump(), author));
  TRY(transaction.commit());
  publish(before->with(changed(was,
                               [&](FunctionEntry& entry) {
                                 entry.versions.push_back({{number}, content(manifest, artifact)});
                                 entry.current = champion;
                                 entry.routing = shared_routing(routing);
                               }),
                       sequence));
  return VersionNumber{number};
}

Result<FunctionSettings> Registry::configure(const FunctionName& function,
                                             std::string_view changes_json, const Author& author) {
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = TRY(need(function));
  FunctionSettings after = TRY(apply_settings(*entry->settings, changes_json));
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

Status Registry::reroute(const FunctionEntry& function, Rerouting after, const Author& author) {
  Transaction transaction = TRY(Transaction::begin(db_.database()));
  if (after.champion != function.current) {
    TRY(db_.set_current(function.id, after.champion.value));
  }
  TRY(db_.set_routing(function.id, to_json(after.routing)));
  const std::uint64_t sequence =
      TRY(record(function.name, after.kind, std::move(after.detail), author));
  TRY(transaction.commit());
  publish(snapshot()->with(changed(function,
                                   [&](FunctionEntry& next) {
                                     next.current = after.champion;
                                     next.routing = shared_routing(std::move(after.routing));
                                   }),
                           sequence));
  return {};
}

Status Registry::point_at(const FunctionEntry& function, VersionNumber version,
                          const Author& author) {
  Routing routing = all_to(function, version);
  const Json detail{{"before", shares_json(function.current, function.routing->traffic)},
                    {"after", shares_json(version, routing.traffic)},
                    {"why", author.why}};
  return reroute(function,
                 {.champion = version,
                  .routing = std::move(routing),
                  .kind = "point",
                  .detail = detail.dump()},
                 author);
}

Status Registry::point(const FunctionName& function, VersionNumber version, const Author& author,
                       const FunctionEntry* seen) {
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = TRY(need(function));
  TRY(check_as_seen(*entry, seen));
  TRY(snapshot()->resolve({.function = function, .version = version}));
  const Traffic& traffic = entry->routing->traffic;
  const bool has_all = !traffic.split() && !entry->routing->waiting;
  if (entry->current == version && has_all && traffic.shadows.empty()) return {};
  return point_at(*entry, version, author);
}

Status Registry::split(const FunctionName& function, const Traffic& traffic, const Author& author,
                       const FunctionEntry* seen) {
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = TRY(need(function));
  TRY(check_exist(*entry, traffic));
  TRY(check_as_seen(*entry, seen));
  Traffic wanted = traffic;
  VersionNumber champion = entry->current;
  if (!wanted.weights.empty()) {
    const auto heaviest = std::ranges::max_element(wanted.weights, {}, &VersionShare::percent);
    const bool stays =
        std::ranges::find(wanted.weights, champion, &VersionShare::version) != wanted.weights.end();
    if (!stays) champion = heaviest->version;
    if (wanted.weights.size() == 1) wanted.weights.clear();
  }
  for (const VersionShare& shadow : wanted.shadows) {
    if (shadow.version == champion) {
      return refuse(reason::kInvalidTraffic,
                    fmt::format("traffic: version {} is the champion: it cannot shadow itself",
                                champion.value));
    }
  }
  const bool same = wanted == entry->routing->traffic && !entry->routing->waiting;
  if (same && champion == entry->current) return {};
  Routing routing = *entry->routing;
  routing.waiting = false;
  if (champion != entry->current) set_alias(routing, kPrevious, entry->current);
  const Json detail{{"before", shares_json(entry->current, routing.traffic)},
                    {"after", shares_json(champion, wanted)},
                    {"why", author.why}};
  routing.traffic = std::move(wanted);
  return reroute(*entry,
                 {.champion = champion,
                  .routing = std::move(routing),
                  .kind = "traffic",
                  .detail = detail.dump()},
                 author);
}

Status Registry::roll_back(const FunctionName& function, const Author& author) {
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = TRY(need(function));
  if (entry->routing->traffic.split()) return point_at(*entry, entry->current, author);
  const Alias* previous = entry->routing->find(kPrevious);
  if (previous == nullptr || entry->find(previous->version) == nullptr) {
    return refuse(reason::kConflict,
                  fmt::format("{0} has no previous version to go back to; mayfly traffic {0} N=100 "
                              "gives all requests to version N",
                              function.str()));
  }
  return point_at(*entry, previous->version, author);
}

Status Registry::move_alias(const FunctionName& function, const AliasMove& move,
                            const Author& author) {
  TRY(check_alias(move.alias));
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = TRY(need(function));
  if (move.to && entry->find(*move.to) == nullptr) {
    return refuse(reason::kUnknownVersion,
                  fmt::format("function '{}' has no version {}", function.str(), move.to->value));
  }
  const bool champion = move.alias == kChampion;
  if (move.alias == kPrevious || (champion && !move.to)) {
    return refuse(reason::kInvalidTraffic,
                  champion ? "the champion can be moved, not removed"
                           : "'previous' follows the champion; it is not moved by hand");
  }
  const Alias* known = entry->routing->find(move.alias);
  std::optional<VersionNumber> now;
  if (champion) now = entry->current;
  if (known != nullptr) now = known->version;
  const auto shown = [](const std::optional<VersionNumber>& version) {
    return version ? fmt::format("version {}", version->value) : std::string("nothing");
  };
  if (now != move.from) {
    return refuse(reason::kConflict, fmt::format("{}@{} is {}, not {}", function.str(), move.alias,
                                                 shown(now), shown(move.from)));
  }
  if (now == move.to) return {};
  if (champion) {
    return point_at(*entry, *move.to, author);
  }
  Routing routing = *entry->routing;
  std::erase_if(routing.aliases, [&](const Alias& alias) { return alias.name == move.alias; });
  if (move.to) set_alias(routing, move.alias, *move.to);
  if (routing.aliases.size() > kMaxAliases) {
    return refuse(reason::kInvalidTraffic,
                  fmt::format("{} has {} aliases; no more are kept", function.str(), kMaxAliases));
  }
  const auto number = [](const std::optional<VersionNumber>& version) {
    return version ? Json(version->value) : Json();
  };
  const Json detail{{"alias", move.alias},
                    {"from", number(move.from)},
                    {"to", number(move.to)},
                    {"why", author.why}};
  return reroute(*entry,
                 {.champion = entry->current,
                  .routing = std::move(routing),
                  .kind = "alias",
                  .detail = detail.dump()},
                 author);
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

Result<std::vector<RolloutRow>> Registry::rollouts() {
  const std::scoped_lock lock(writer_);
  return db_.rollouts();
}

Status Registry::save_rollout(std::int64_t function, std::string_view json) {
  const std::scoped_lock lock(writer_);
  return db_.set_rollout(function, json);
}

Status Registry::erase_rollout(std::int64_t function) {
  const std::scoped_lock lock(writer_);
  return db_.delete_rollout(function);
}

Status Registry::note(const FunctionName& function, std::string_view kind, std::string detail_json,
                      const Author& author) {
  const std::scoped_lock lock(writer_);
  std::ignore = TRY(record(function, kind, std::move(detail_json), author));
  return {};
}

Result<Provenance> Registry::provenance(const FunctionName& function, VersionNumber version) {
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = TRY(need(function));
  TRY(snapshot()->resolve({.function = function, .version = version}));
  return db_.provenance_of(entry->id, version.value);
}

Result<std::vector<VersionRow>> Registry::versions(const FunctionName& function) {
  const std::scoped_lock lock(writer_);
  const FunctionTable::Entry entry = TRY(need(function));
  return db_.versions_of(entry->id);
}

Result<std::vector<Change>> Registry::history(const FunctionName& function, std::uint32_t limit,
                                              std::string_view kind) {
  const std::scoped_lock lock(writer_);
  return db_.changes_of(function.str(), limit, kind);
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
    // Deleted, or in use again, since the list was made.
    if (!entry || entry->in_use(number) || entry->find(number) == nullptr) continue;
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

Status Registry::copy_to(const Path& path) {
  const std::scoped_lock lock(writer_);
  return db_.database().copy_to(path);
}

}  // namespace mayfly
