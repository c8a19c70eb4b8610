#include "serving/traffic_switch.h"

#include <fmt/format.h>

#include "core/project.h"
#include "core/reason.h"
#include "serving/traffic_json.h"
#include "serving/version_folder.h"

namespace mayfly {
namespace {

std::vector<VersionNumber> versions_in(const Traffic& traffic) {
  std::vector<VersionNumber> versions;
  for (const VersionShare& share : traffic.weights) versions.push_back(share.version);
  return versions;
}

FunctionId id_of(const FunctionEntry& function) {
  return {static_cast<std::uint64_t>(function.id)};
}

}  // namespace

FunctionTable::Entry TrafficSwitch::known(const FunctionName& name) const {
  return parts_.catalog.table()->find(name.str());
}

// Nothing runs for a function that nobody calls: only one that has processes gets more of them.
Task<Status> TrafficSwitch::warm(FunctionName name, std::vector<VersionNumber> versions) {
  for (const VersionNumber version : versions) {
    const FunctionTable::Entry function = known(name);
    if (!function || !parts_.dispatcher.resident(id_of(*function))) co_return Status{};
    const VersionEntry* entry = function->find(version);
    if (entry == nullptr) continue;  // the registry will say so
    const ResolvedVersion resolved{.function = function, .version = entry};
    CO_TRY(const ServingRef serving, co_await parts_.catalog.find(resolved));
    const Status warmed =
        co_await parts_.dispatcher.warm(serving->runtime, serving->settings, serving->sequence);
    // A request may take memory from what idles; that it can start has been shown at publish.
    if (warmed || warmed.error().reason == reason::kMemoryPressure) continue;
    co_return std::unexpected(Error(warmed.error()).in("traffic stays as it was"));
  }
  co_return Status{};
}

// After the registry has changed: what is kept moves to the champion, what lost its share goes.
Task<Result<FunctionTable::Entry>> TrafficSwitch::settle(FunctionName name,
                                                         FunctionTable::Entry before) {
  publish();
  CO_TRY(const ResolvedVersion champion, parts_.catalog.resolve(name.str(), ""));
  CO_TRY(const ServingRef serving, co_await parts_.catalog.find(champion));
  parts_.dispatcher.serve(serving->runtime, serving->settings, serving->sequence);
  // As things stand now: another switch may have been made meanwhile.
  FunctionTable::Entry function = known(name);
  if (!function) co_return champion.function;
  parts_.shadows.end(id_of(*function));  // what still shadows starts anew when asked
  for (const VersionEntry& version : function->versions) {
    const bool had = before && weight_of(*before, version.number) > 0;
    if (had && weight_of(*function, version.number) == 0)
      parts_.dispatcher.evict(VersionKey{id_of(*function), version.number.value});
  }
  co_return function;
}

Task<Result<FunctionTable::Entry>> TrafficSwitch::split(FunctionName name, Traffic traffic,
                                                        Author author, FunctionTable::Entry seen) {
  CO_TRY_STATUS(co_await warm(name, versions_in(traffic)));
  const FunctionTable::Entry before = known(name);
  CO_TRY_STATUS(co_await parts_.pool.run(
      [&] { return parts_.registry.split(name, traffic, author, seen.get()); }));
  co_return co_await settle(name, before);
}

Task<Result<FunctionTable::Entry>> TrafficSwitch::point(FunctionName name, VersionNumber version,
                                                        Author author, FunctionTable::Entry seen) {
  CO_TRY_STATUS(co_await warm(name, {version}));
  co_return co_await go_back_to(name, version, author, seen);
}

Task<Result<FunctionTable::Entry>> TrafficSwitch::go_back_to(FunctionName name,
                                                             VersionNumber version, Author author,
                                                             FunctionTable::Entry seen) {
  const FunctionTable::Entry before = known(name);
  CO_TRY_STATUS(co_await parts_.pool.run(
      [&] { return parts_.registry.point(name, version, author, seen.get()); }));
  co_return co_await settle(name, before);
}

Task<Result<FunctionTable::Entry>> TrafficSwitch::move_alias(FunctionName name, AliasMove move,
                                                             Author author) {
  const bool champion = move.alias == kChampion;
  if (champion && move.to) {
    CO_TRY_STATUS(co_await warm(name, {*move.to}));
  }
  const FunctionTable::Entry before = known(name);
  CO_TRY_STATUS(
      co_await parts_.pool.run([&] { return parts_.registry.move_alias(name, move, author); }));
  if (champion) co_return co_await settle(name, before);
  publish();
  CO_TRY(const ResolvedVersion now, parts_.catalog.resolve(name.str(), ""));
  co_return now.function;
}

Task<Result<FunctionTable::Entry>> TrafficSwitch::roll_back(FunctionName name, Author author) {
  const FunctionTable::Entry before = known(name);
  CO_TRY_STATUS(co_await parts_.pool.run([&] { return parts_.registry.roll_back(name, author); }));
  co_return co_await settle(name, before);
}

// A function at zero switches in one step. One that is being used has the version started before it
// gets any request.
// Over what can be exported of it; the project's key vouches that this is what was published here.
Status TrafficSwitch::sign(Deployment& deployment) const {
  if (!deployment.vouched) return {};
  const std::string& name = deployment.function.str();
  SigningKeyStore::Signed made = TRY(parts_.signing.sign(
      project_of(name),
      version_folder(local_name(name), deployment.manifest, deployment.training)));
  deployment.provenance.signature = std::move(made.bundle);
  deployment.provenance.key = std::move(made.key);
  return {};
}

Task<Result<TrafficSwitch::Introduced>> TrafficSwitch::introduce(Deployment deployment,
                                                                 Author author) {
  const FunctionName name = deployment.function;
  const std::uint32_t percent = deployment.traffic.percent;
  const FunctionTable::Entry before = known(name);
  const bool used = before && percent > 0 && parts_.dispatcher.resident(id_of(*before));
  if (used) deployment.traffic.percent = 0;
  CO_TRY(const VersionNumber number, co_await parts_.pool.run([&]() -> Result<VersionNumber> {
    TRY(sign(deployment));
    return parts_.registry.deploy(deployment, author);
  }));
  if (!used) {
    CO_TRY(FunctionTable::Entry settled, co_await settle(name, before));
    co_return Introduced{.number = number, .function = std::move(settled)};
  }
  publish();
  const FunctionTable::Entry entry = known(name);
  if (!entry) co_return refuse(reason::kUnknownFunction, name.str() + " was deleted meanwhile");
  Traffic canary = entry->routing->traffic;
  canary.weights = {{entry->current, kWholeTraffic - percent}, {number, percent}};
  auto switched = percent == kWholeTraffic ? co_await point(name, number, author)
                                           : co_await split(name, canary, author, entry);
  if (!switched) {
    co_return std::unexpected(
        Error(switched.error()).in(fmt::format("version {} is published, but", number.value)));
  }
  co_return Introduced{.number = number, .function = *std::move(switched)};
}

}  // namespace mayfly
