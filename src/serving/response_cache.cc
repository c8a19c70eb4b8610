#include "serving/response_cache.h"

#include <span>
#include <utility>
#include <vector>

namespace mayfly {
namespace {

// Of an entry, beside its outputs: list, index, digest, views.
constexpr std::uint64_t kOverhead = 512;
constexpr std::uint64_t kAllocation = 32;  // what malloc adds to a block

template <typename T>
void feed(Sha256& hash, const T& value) {
  hash.update(std::as_bytes(std::span(&value, 1)));
}

// With its length before it, so that no two requests have the same text.
template <typename T>
void feed_all(Sha256& hash, const std::vector<T>& values) {
  feed(hash, values.size());
  hash.update(std::as_bytes(std::span(values)));
}

// The outputs of a reply, in memory of their own.
struct KeptOutputs {
  std::vector<std::byte> bytes;
};

}  // namespace

std::optional<Digest> ResponseCache::key_of(const VersionKey& version,
                                            RequestMemory& request) const {
  const RequestLayout& layout = request.layout();
  if (limit_.count == 0 || layout.request_bytes() > kLargest.count) return std::nullopt;
  Sha256 hash;
  feed(hash, version.function.value);
  feed(hash, version.version);
  feed(hash, layout.inputs().size());
  for (std::size_t i = 0; i < layout.inputs().size(); ++i) {
    const InputPlan& input = layout.inputs()[i];
    feed(hash, input.index);
    feed(hash, input.type);
    feed(hash, input.form);
    feed_all(hash, input.shape);
    feed(hash, input.bytes);
    hash.update(request.input(i));
  }
  feed_all(hash, layout.outputs());
  return hash.digest();
}

std::optional<Reply> ResponseCache::find(const Digest& key) {
  const auto found = index_.find(key);
  if (found == index_.end()) {
    ++counts_.misses;
    return std::nullopt;
  }
  ++counts_.hits;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->reply;
}

void ResponseCache::put(const Digest& key, FunctionId function, const Reply& reply) {
  if (index_.contains(key)) return;
  std::uint64_t bytes = 0;
  for (const OutputView& output : reply.outputs) bytes += output.bytes.size();
  std::uint64_t charged = bytes + kOverhead;
  for (const OutputView& output : reply.outputs)
    charged += sizeof output + output.shape.size() * sizeof output.shape[0] + kAllocation;
  if (bytes > kLargest.count || charged > limit_.count) return;
  while (counts_.bytes.count + charged > limit_.count) {
    ++counts_.evicted;
    drop(std::prev(entries_.end()));
  }
  auto kept = std::make_shared<KeptOutputs>();
  kept->bytes.reserve(bytes);  // the views below stay where they are
  Reply own{.outputs = reply.outputs, .memory = nullptr};
  for (OutputView& output : own.outputs) {
    const std::size_t begin = kept->bytes.size();
    kept->bytes.insert(kept->bytes.end(), output.bytes.begin(), output.bytes.end());
    output.bytes = std::span<const std::byte>(kept->bytes).subspan(begin, output.bytes.size());
  }
  own.memory = std::move(kept);
  entries_.push_front(
      {.key = key, .function = function, .reply = std::move(own), .bytes = charged});
  index_.emplace(key, entries_.begin());
  ++counts_.entries;
  counts_.bytes = counts_.bytes + Bytes{charged};
}

void ResponseCache::drop(Entries::iterator entry) {
  counts_.bytes = counts_.bytes - Bytes{entry->bytes};
  --counts_.entries;
  index_.erase(entry->key);
  entries_.erase(entry);
}

void ResponseCache::forget(FunctionId function) {
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto next = std::next(entry);
    if (entry->function == function) drop(entry);
    entry = next;
  }
}

}  // namespace mayfly
