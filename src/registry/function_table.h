// What the data plane knows of all functions: an immutable snapshot, published anew after every
// change. Threads share it freely; entries live as long as somebody holds them.
//
// The table is 256 buckets by hash of the name, each an immutable sorted array of pointers to
// immutable entries. A change copies one bucket and the array of bucket pointers (4 KiB, about 2
// µs) and shares everything else, so that deploying one of 10,000 functions costs the same as
// deploying one of ten. An entry holds names and numbers only, around 300 bytes with one version;
// what a version contains is loaded when somebody asks (Registry::manifest).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "core/names.h"
#include "core/settings.h"
#include "core/traffic.h"
#include "store/digest.h"

namespace mayfly {

// Shared by all versions with equal manifests.
struct VersionContent {
  Digest manifest;  // SHA-256 of the manifest's canonical JSON
  Digest artifact;  // of the list of files: the key of the compiled form
};

struct VersionEntry {
  VersionNumber number;
  std::shared_ptr<const VersionContent> content;
};

// Of functions that split nothing and have no alias: they share one.
std::shared_ptr<const Routing> plain_routing();

struct FunctionEntry {
  FunctionName name;
  std::int64_t id =
      0;  // of this life of the name: a function made again after a delete has another
  WallTime created{};
  VersionNumber current;  // the champion
  std::shared_ptr<const FunctionSettings> settings;
  std::vector<VersionEntry> versions;  // by number; never empty
  std::shared_ptr<const Routing> routing = plain_routing();

  const VersionEntry* find(VersionNumber number) const;
  // The champion, or named by a weight, a shadow or an alias.
  bool in_use(VersionNumber number) const;
};

// A reference that was looked up. `version` points into `function`.
struct ResolvedVersion {
  std::shared_ptr<const FunctionEntry> function;
  const VersionEntry* version = nullptr;
};

class FunctionTable {
 public:
  using Entry = std::shared_ptr<const FunctionEntry>;

  FunctionTable() : FunctionTable({}, 0) {}
  FunctionTable(std::vector<Entry> entries, std::uint64_t sequence);  // names are unique

  // Grows by at least one with every change of the registry.
  std::uint64_t sequence() const { return sequence_; }
  std::size_t size() const { return size_; }

  Entry find(std::string_view name) const;  // null: unknown
  // The named version; without one the champion, whatever the traffic. unknown_function,
  // unknown_version.
  Result<ResolvedVersion> resolve(const ModelRef& ref) const;
  std::vector<Entry> all() const;  // by name

  // The table after a change.
  FunctionTable with(Entry entry, std::uint64_t sequence) const;
  FunctionTable without(std::string_view name, std::uint64_t sequence) const;

 private:
  using Bucket = std::vector<Entry>;
  static std::size_t bucket_of(std::string_view name);

  std::vector<std::shared_ptr<const Bucket>> buckets_;  // null: empty
  std::size_t size_ = 0;
  std::uint64_t sequence_ = 0;
};

// Versions that may go under the function's `keep_versions`: all but the newest so many and those
// in use.
std::vector<VersionNumber> superseded(const FunctionEntry& function);

}  // namespace mayfly
