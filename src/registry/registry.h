// The registry: functions, their immutable versions, settings and history.
//
// One writer: changes take turns behind a mutex, are committed durably (SQLite, synchronous=FULL),
// append one line each to a history that is never edited, and then publish a new FunctionTable.
// Methods block on the disk and are called from pools; snapshot() and cached_manifest() never touch
// it and are fit for the loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "core/manifest.h"
#include "core/names.h"
#include "core/settings.h"
#include "registry/function_table.h"
#include "registry/manifest_cache.h"
#include "registry/registry_db.h"
#include "store/digest.h"

namespace mayfly {

// Who changes something, and why, for the history.
struct Author {
  std::string who;
  std::string why;
};

// What the new version of a deploy gets. The first version of a function gets everything, or the
// function waits for somebody to give its requests to a version.
struct DeployTraffic {
  std::uint32_t percent = kWholeTraffic;  // 100: it becomes the champion; 0: nothing
  enum class First : std::uint8_t { GetsAll, Waits } first = First::GetsAll;
};

struct Deployment {
  FunctionName function;
  Manifest manifest;
  std::string report = "{}";  // JSON of what publishing measured
  DeployTraffic traffic = {};
  Provenance provenance = {};
  bool vouched = true;  // the project signs it; false: an import that nobody signed
  std::optional<VersionTraining> training = std::nullopt;  // its record is among the blobs
};

// An alias before and after a change; nullopt: there was, or is, none.
struct AliasMove {
  std::string alias;
  std::optional<VersionNumber> from;
  std::optional<VersionNumber> to;
};

struct FunctionVersion {
  FunctionName function;
  VersionNumber number;
};

// Everything that the remaining versions need.
struct LiveContent {
  std::unordered_set<Digest> blobs;
  std::unordered_set<Digest> artifacts;     // digests of compiled forms
  std::unordered_set<Digest> environments;  // of Python packages
  std::map<std::string, std::unordered_set<Digest>, std::less<>> by_project;  // the blobs
};

class Registry {
 public:
  using Snapshot = std::shared_ptr<const FunctionTable>;

  // `clock` outlives me.
  static Result<std::unique_ptr<Registry>> open(const Path& database, const Clock& clock);

  Snapshot snapshot() const;
  // Called with every new snapshot, in order, on the thread that made the change and before it
  // returns; posts to the loop, no more. Set before the first change.
  void on_publish(std::function<void(Snapshot)> listener);

  // Makes the next version and gives it the traffic asked for; makes the function when it is new.
  // A training makes one version: deployed again, it is the one that is there. conflict: a canary
  // while traffic is split already.
  Result<VersionNumber> deploy(const Deployment& deployment, const Author& author);
  // {"idle_timeout":"5s"}: checked as a whole, then in force for new decisions.
  Result<FunctionSettings> configure(const FunctionName& function, std::string_view changes_json,
                                     const Author& author);
  // All traffic to the version: it becomes the champion, the one before it `previous`, and a split
  // ends with its shadows. Of this and split(), conflict: champion or traffic are not what they are
  // in `seen`, where that is given.
  Status point(const FunctionName& function, VersionNumber version, const Author& author,
               const FunctionEntry* seen = nullptr);
  // Splits traffic. All to one version without shadows is point(). A champion that gets nothing any
  // more hands over to the heaviest version, or the oldest of these.
  Status split(const FunctionName& function, const Traffic& traffic, const Author& author,
               const FunctionEntry* seen = nullptr);
  // Back: a split ends in favour of the champion; else the previous version becomes the champion,
  // and the champion the previous one. Shadows end. conflict: there is no previous version.
  Status roll_back(const FunctionName& function, const Author& author);
  // Compare and swap: `move.from` must be what the alias names now, or conflict. "champion" is
  // point(); "previous" moves by itself only.
  Status move_alias(const FunctionName& function, const AliasMove& move, const Author& author);
  // Gone at once for everybody; its bytes go with the next garbage collection.
  Status remove(const FunctionName& function, const Author& author);

  // Rollouts under way, as their owner keeps them.
  Result<std::vector<RolloutRow>> rollouts();
  Status save_rollout(std::int64_t function, std::string_view json);
  Status erase_rollout(std::int64_t function);
  // A line of history about what is no change of mine. `detail_json` is an object.
  Status note(const FunctionName& function, std::string_view kind, std::string detail_json,
              const Author& author);

  Result<std::vector<VersionRow>> versions(const FunctionName& function);
  // With its signature. unknown_function, unknown_version.
  Result<Provenance> provenance(const FunctionName& function, VersionNumber version);
  // nullopt: it was not trained here, nor elsewhere that one knows of. The same errors.
  Result<std::optional<VersionTraining>> training(const FunctionName& function,
                                                  VersionNumber version);
  // What that training has made of the function, if it is still there.
  Result<std::optional<VersionNumber>> version_of_job(const FunctionName& function,
                                                      std::string_view job);
  // Versions that learned from a snapshot, of "team/credit".
  Result<std::vector<FunctionVersion>> trained_on(std::string_view dataset, std::uint32_t snapshot);
  // Newest first, of one kind or (empty) of all; also of a function that was deleted.
  Result<std::vector<Change>> history(const FunctionName& function, std::uint32_t limit,
                                      std::string_view kind = {});
  // The log of all changes, oldest first, from behind `sequence`.
  Result<std::vector<Change>> changes_after(std::uint64_t sequence, std::uint32_t limit);

  // Parsed once and kept while in use. NotFound; data_loss when the stored text is not what its
  // digest says.
  Result<std::shared_ptr<const Manifest>> manifest(const Digest& digest);
  std::shared_ptr<const Manifest> cached_manifest(const Digest& digest);  // null: ask manifest()

  // For garbage collection. superseded_versions: what `keep_versions` lets go.
  std::vector<FunctionVersion> superseded_versions() const;
  // Removes their rows, those of deleted functions and manifests that nobody names any more. Which
  // ones went: one that its function has been pointed at since the list was made stays.
  Result<std::vector<FunctionVersion>> retire(const std::vector<FunctionVersion>& versions,
                                              const Author& author);
  // What is in use if `without` were retired.
  Result<LiveContent> live_content(const std::vector<FunctionVersion>& without);

  // A consistent copy of the database, for backups.
  Status copy_to(const Path& path);

 private:
  Registry(RegistryDb db, const Clock& clock);
  Status load();
  Status collect_live(const std::vector<FunctionVersion>& without, LiveContent& live,
                      std::vector<Digest>& manifests);
  Status add_environments(LiveContent& live, const std::vector<Digest>& manifests);
  Result<FunctionTable::Entry> need(const FunctionName& function) const;
  // Makes it so durably, with one line of history, and publishes it.
  struct Rerouting {
    VersionNumber champion;
    Routing routing;
    std::string_view kind;
    std::string detail;
  };
  Status reroute(const FunctionEntry& function, Rerouting after, const Author& author);
  Status point_at(const FunctionEntry& function, VersionNumber version, const Author& author);
  std::shared_ptr<const VersionContent> content(const Digest& manifest, const Digest& artifact);
  static Status check_share(const FunctionTable::Entry& existing, std::uint32_t percent);
  Result<std::optional<VersionNumber>> number_of(const FunctionTable::Entry& existing,
                                                 const Deployment& deployment);
  Result<std::uint64_t> record(const FunctionName& function, std::string_view kind,
                               std::string detail, const Author& author);
  void publish(FunctionTable table);

  const Clock& clock_;
  std::mutex writer_;  // db_, contents_, listener_, and the order of publishing
  RegistryDb db_;
  // Equal contents are one object, as long as some version has it.
  std::unordered_map<Digest, std::weak_ptr<const VersionContent>> contents_;
  std::function<void(Snapshot)> listener_;

  mutable std::mutex snapshot_mutex_;  // held for a pointer copy
  Snapshot snapshot_;
  ManifestCache manifests_;
};

}  // namespace mayfly
