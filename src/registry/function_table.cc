#include "registry/function_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kBuckets = 256;

std::string_view name_of(const FunctionTable::Entry& entry) { return entry->name.str(); }

}  // namespace

std::shared_ptr<const Routing> plain_routing() {
  static const auto kPlain = std::make_shared<const Routing>();
  return kPlain;
}

bool FunctionEntry::in_use(VersionNumber number) const {
  return number == current || routing->names(number);
}

const VersionEntry* FunctionEntry::find(VersionNumber number) const {
  const auto found = std::ranges::lower_bound(versions, number, {}, &VersionEntry::number);
  return found != versions.end() && found->number == number ? &*found : nullptr;
}

std::size_t FunctionTable::bucket_of(std::string_view name) {
  return std::hash<std::string_view>{}(name) % kBuckets;
}

FunctionTable::FunctionTable(std::vector<Entry> entries, std::uint64_t sequence)
    : buckets_(kBuckets), size_(entries.size()), sequence_(sequence) {
  std::vector<Bucket> sorted(kBuckets);
  for (Entry& entry : entries) sorted[bucket_of(name_of(entry))].push_back(std::move(entry));
  for (std::size_t i = 0; i < kBuckets; ++i) {
    if (sorted[i].empty()) continue;
    std::ranges::sort(sorted[i], {}, name_of);
    sorted[i].shrink_to_fit();
    buckets_[i] = std::make_shared<const Bucket>(std::move(sorted[i]));
  }
}

FunctionTable::Entry FunctionTable::find(std::string_view name) const {
  const auto& bucket = buckets_[bucket_of(name)];
  if (!bucket) return nullptr;
  const auto found = std::ranges::lower_bound(*bucket, name, {}, name_of);
  return found != bucket->end() && name_of(*found) == name ? *found : nullptr;
}

Result<ResolvedVersion> FunctionTable::resolve(const ModelRef& ref) const {
  Entry function = find(ref.function.str());
  if (!function) {
    return refuse(reason::kUnknownFunction, fmt::format("no function '{}'", ref.function.str()));
  }
  VersionNumber number = ref.version.value_or(function->current);
  if (!ref.alias.empty() && ref.alias != kChampion) {
    const Alias* alias = function->routing->find(ref.alias);
    if (alias == nullptr) {
      return refuse(reason::kUnknownVersion,
                    fmt::format("function '{}' has no alias '{}'", ref.function.str(), ref.alias));
    }
    number = alias->version;
  }
  const VersionEntry* version = function->find(number);
  if (version == nullptr) {
    return refuse(reason::kUnknownVersion,
                  fmt::format("function '{}' has no version {}", ref.function.str(), number.value));
  }
  return ResolvedVersion{.function = std::move(function), .version = version};
}

std::vector<FunctionTable::Entry> FunctionTable::all() const {
  std::vector<Entry> entries;
  entries.reserve(size_);
  for (const auto& bucket : buckets_) {
    if (bucket) entries.insert(entries.end(), bucket->begin(), bucket->end());
  }
  std::ranges::sort(entries, {}, name_of);
  return entries;
}

FunctionTable FunctionTable::with(Entry entry, std::uint64_t sequence) const {
  FunctionTable table = *this;
  table.sequence_ = sequence;
  auto& slot = table.buckets_[bucket_of(name_of(entry))];
  Bucket bucket;
  bucket.reserve((slot ? slot->size() : 0) + 1);
  if (slot) bucket = *slot;
  const auto at = std::ranges::lower_bound(bucket, name_of(entry), {}, name_of);
  if (at != bucket.end() && name_of(*at) == name_of(entry)) {
    *at = std::move(entry);
  } else {
    bucket.insert(at, std::move(entry));
    ++table.size_;
  }
  slot = std::make_shared<const Bucket>(std::move(bucket));
  return table;
}

FunctionTable FunctionTable::without(std::string_view name, std::uint64_t sequence) const {
  FunctionTable table = *this;
  table.sequence_ = sequence;
  auto& slot = table.buckets_[bucket_of(name)];
  if (!find(name)) return table;
  Bucket bucket = *slot;
  std::erase_if(bucket, [&](const Entry& entry) { return name_of(entry) == name; });
  slot = bucket.empty() ? nullptr : std::make_shared<const Bucket>(std::move(bucket));
  --table.size_;
  return table;
}

std::vector<VersionNumber> superseded(const FunctionEntry& function) {
  const std::size_t keep = function.settings->keep_versions;
  std::vector<VersionNumber> old;
  if (keep == 0 || function.versions.size() <= keep) return old;
  for (std::size_t i = 0; i < function.versions.size() - keep; ++i) {
    const VersionNumber number = function.versions[i].number;
    if (!function.in_use(number)) old.push_back(number);
  }
  return old;
}

}  // namespace mayfly
