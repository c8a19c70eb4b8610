#include "app/scrubbing.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"

namespace mayfly {

// A form's key begins with its artifact's digest; a blob is a file of a manifest.
Task<std::vector<DamageDesk::Concerned>> DamageDesk::concerned(const Damage& damage) {
  std::vector<Concerned> found;
  const Registry::Snapshot table = parts_.catalog.table();
  for (const auto& function : table->all()) {
    for (const VersionEntry& version : function->versions) {
      bool concerns = damage.name.starts_with(to_string(version.content->artifact));
      if (damage.kind == Damage::Kind::Blob) {
        const Digest digest = version.content->manifest;
        const auto manifest =
            co_await parts_.pool.run([&] { return parts_.registry.manifest(digest); });
        concerns = manifest && std::ranges::find((*manifest)->files, damage.name,
                                                 &ArtifactFile::sha256) != (*manifest)->files.end();
      }
      if (!concerns) continue;
      const FunctionId id{static_cast<std::uint64_t>(function->id)};
      found.push_back({function->name, VersionKey{id, version.number.value}});
    }
  }
  co_return found;
}

Task<void> DamageDesk::take(Damage damage) {
  LOG(error, "damage was found and put into quarantine", {"kind", to_string(damage.kind)},
      {"name", damage.name}, {"why", damage.why});
  const std::vector<Concerned> all = co_await concerned(damage);
  for (const Concerned& one : all) {
    if (damage.kind == Damage::Kind::Form) parts_.dispatcher.evict(one.version);
    const nlohmann::json detail{{"version", one.version.version},
                                {"damaged", to_string(damage.kind)},
                                {"name", damage.name},
                                {"why", damage.why}};
    const std::string text = detail.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    const Status noted = co_await parts_.pool.run([&] {
      return parts_.registry.note(one.function, "scrub", text, {.who = "scrub", .why = "damage"});
    });
    if (!noted) LOG(error, "history was not written", {"error", noted.error().message});
  }
}

}  // namespace mayfly
