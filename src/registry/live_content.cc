// Registry::live_content: what garbage collection must leave.
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

#include "core/project.h"
#include "registry/registry.h"

namespace mayfly {

Status Registry::add_environments(LiveContent& live, const std::vector<Digest>& manifests) {
  for (const Digest& digest : manifests) {
    const auto content = TRY(manifest(digest));
    if (const auto environment = parse_digest(content->environment.digest))
      live.environments.insert(*environment);
  }
  return {};
}

Result<LiveContent> Registry::live_content(const std::vector<FunctionVersion>& without) {
  LiveContent live;
  std::vector<Digest> manifests;
  TRY(collect_live(without, live, manifests));
  TRY(add_environments(live, manifests));
  return live;
}

Status Registry::collect_live(const std::vector<FunctionVersion>& without, LiveContent& live,
                              std::vector<Digest>& found) {
  std::set<std::pair<std::string, VersionNumber>> skipped;
  for (const auto& [function, number] : without) skipped.emplace(function.str(), number);
  const std::scoped_lock lock(writer_);
  std::unordered_map<Digest, std::set<std::string>> manifests;  // and the projects they are of
  for (const auto& entry : snapshot()->all()) {
    for (const VersionEntry& version : entry->versions) {
      if (skipped.contains({entry->name.str(), version.number})) continue;
      manifests[version.content->manifest].emplace(project_of(entry->name.str()));
      live.artifacts.insert(version.content->artifact);
    }
  }
  for (const auto& [digest, projects] : manifests) found.push_back(digest);
  const std::vector<TrainedRow> trained = TRY(db_.trained());
  for (const TrainedRow& row : trained) {
    if (skipped.contains({row.function, VersionNumber{row.number}})) continue;
    live.blobs.insert(row.record);
    live.by_project[std::string(project_of(row.function))].insert(row.record);
  }
  return db_.for_each_blob([&](const Digest& manifest, const Digest& blob) -> Status {
    const auto known = manifests.find(manifest);
    if (known == manifests.end()) return {};
    live.blobs.insert(blob);
    for (const std::string& project : known->second) live.by_project[project].insert(blob);
    return {};
  });
}

}  // namespace mayfly
