// The registry's tables and the statements on them: rows in, rows out, no decisions. Calls that
// belong together run in a Transaction of the caller. One thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "core/names.h"
#include "store/digest.h"
#include "store/sqlite.h"

namespace mayfly {

struct FunctionRow {
  std::int64_t id = 0;
  std::string name;
  WallTime created{};
  std::uint32_t current = 0;
  std::string settings;      // JSON
  std::string routing = {};  // JSON; empty: plain
};

// Who vouches for a version, and where it came from.
struct Provenance {
  std::string signature;      // JSON, signing/model_signature.h; empty: nobody signed it
  std::string key;            // id of the project's key that did
  std::string origin = "{}";  // JSON, of an import; only for people
};

struct VersionRow {
  std::int64_t function = 0;
  std::uint32_t number = 0;
  Digest manifest;
  Digest artifact;
  WallTime created{};
  std::string deployed_by;
  std::string report;          // JSON of what the deploy measured; only for people
  Provenance provenance = {};  // of lists without the signature
};

// How a version was trained. The record is a blob that lives as long as the version.
struct VersionTraining {
  Digest record;
  std::uint64_t size = 0;  // of the record
  std::string job = {};    // that trained it; empty: it was imported
  struct Data {
    std::string dataset;  // "team/credit"
    std::uint32_t snapshot = 0;
    bool operator==(const Data&) const = default;
  };
  std::vector<Data> data = {};
  bool operator==(const VersionTraining&) const = default;
};

struct TrainedRow {
  std::string function;
  std::uint32_t number = 0;
  Digest record;
};

// A rollout under way; `json` is its owner's.
struct RolloutRow {
  std::int64_t function = 0;
  std::string name;
  std::string json;
};

// One line of the append-only history. `detail` is JSON, its keys depend on the kind.
struct Change {
  std::uint64_t sequence = 0;
  WallTime time{};
  std::string who;
  std::string function;
  std::string kind;  // deploy, configure, point, traffic, alias, rollout, delete, retire, scrub
  std::string detail;
};

class RegistryDb {
 public:
  static Result<RegistryDb> open(const Path& path);

  Database& database() { return database_; }

  Result<std::vector<FunctionRow>> live_functions();
  // Of live functions, or of one; by function and number. Reports are left out of the former.
  Status for_each_version(const std::function<Status(const VersionRow&)>& visit);
  Result<std::vector<VersionRow>> versions_of(std::int64_t function);
  Result<Provenance> provenance_of(std::int64_t function, std::uint32_t number);
  Result<std::optional<VersionTraining>> training_of(std::int64_t function, std::uint32_t number);
  Result<std::optional<std::uint32_t>> number_of_job(std::int64_t function, std::string_view job);
  // Of live functions; all, or those that learned from a snapshot.
  Result<std::vector<TrainedRow>> trained();
  Result<std::vector<TrainedRow>> trained_on(std::string_view dataset, std::uint32_t snapshot);
  Result<std::uint64_t> last_sequence();
  Result<std::vector<Change>> changes_of(std::string_view function, std::uint32_t limit,
                                         std::string_view kind);  // empty: of every kind
  Result<std::vector<Change>> changes_after(std::uint64_t sequence, std::uint32_t limit);
  Result<std::optional<std::string>> manifest_json(const Digest& digest);
  // (manifest, blob) pairs.
  Status for_each_blob(const std::function<Status(const Digest&, const Digest&)>& visit);

  // The next number for a name; numbers are never used twice, not even after a delete.
  Result<std::uint32_t> take_number(std::string_view name);
  Result<std::int64_t> insert_function(const FunctionRow& row, std::string_view created_by);
  // Does nothing when the manifest is there.
  Status insert_manifest(const Digest& digest, std::string_view json, const Digest& artifact,
                         const std::vector<Digest>& blobs);
  Status insert_version(const VersionRow& row);
  Status insert_training(std::int64_t function, std::uint32_t number,
                         const VersionTraining& training);
  Status set_current(std::int64_t function, std::uint32_t number);
  Status set_settings(std::int64_t function, std::string_view json);
  Status set_routing(std::int64_t function, std::string_view json);
  Result<std::vector<RolloutRow>> rollouts();  // of live functions
  Status set_rollout(std::int64_t function, std::string_view json);
  Status delete_rollout(std::int64_t function);
  Status mark_deleted(std::int64_t function, WallTime when);
  Result<std::uint64_t> append_change(const Change& change);  // its sequence
  Status delete_version(std::int64_t function, std::uint32_t number);
  // Rows of deleted functions and manifests that no version names.
  Status purge();

 private:
  explicit RegistryDb(Database database) : database_(std::move(database)) {}
  Result<std::vector<Change>> read_changes(Statement query);
  Result<std::vector<TrainedRow>> read_trained(Statement query);
  Database database_;
};

// All blobs that a copy of a registry names.
Result<std::vector<Digest>> blobs_named_in(Database& registry);

}  // namespace mayfly
