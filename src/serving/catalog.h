// From the name in a request to what serves it: the registry's snapshot, manifests and compiled
// artifacts, kept as immutable Serving values. Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "async/cancel.h"
#include "async/pool.h"
#include "async/task.h"
#include "dispatch/environment_slot.h"
#include "publish/publisher.h"
#include "registry/registry.h"
#include "serving/quota_gate.h"
#include "serving/serving.h"
#include "store/blob_store.h"

namespace mayfly {

class Catalog {
 public:
  struct Parts {  // all outlive me
    Registry& registry;
    BlobStore& blobs;
    Publisher& publisher;
    Pool& read_pool;  // for what a prediction waits for: short reads, behind no backup
    QuotaGate& quotas;
  };
  // `stop` ends artifacts being compiled again.
  explicit Catalog(Parts parts, CancelToken stop = {},
                   EnvironmentPolicy environments = EnvironmentPolicy::Kept);

  // What decides among the versions of a split: the key of a request whose function asks for the
  // header `sticky`, which may be empty.
  using RequestKey = std::function<std::uint64_t(std::string_view sticky)>;

  // `name` may be "fraud@3" or "fraud@champion"; `version` stands in v2 paths and may be empty.
  // Without any of these it is what the function's traffic gives the key; without a key the
  // champion.
  Task<Result<ServingRef>> find(std::string_view name, std::string_view version,
                                RequestKey key = {});
  // `resolved` a moment ago: by the table that is known now.
  Task<Result<ServingRef>> find(ResolvedVersion resolved);
  Result<ResolvedVersion> resolve(std::string_view name, std::string_view version) const;
  static Result<ModelRef> reference(std::string_view name, std::string_view version);

  // The registry changed; a table older than the one known is ignored. Called on the loop thread.
  void publish(Registry::Snapshot table);
  const Registry::Snapshot& table() const { return table_; }
  // False: its function was deleted since it was found, whether or not it was made again.
  bool still_has(const Serving& serving) const;
  // A deleted function: what is kept of it goes at once instead of by age.
  void forget(std::string_view function);

 private:
  struct Cached {
    std::uint64_t sequence = 0;  // of the table it was checked against
    ServingRef serving;
    std::list<std::string>::iterator place;
  };
  Task<Result<ServingRef>> make(ResolvedVersion resolved, std::uint64_t sequence);
  Task<Result<Path>> artifact(std::shared_ptr<const Manifest> manifest, std::string label);
  Task<Result<std::string>> imports(std::shared_ptr<const Manifest> manifest, std::string label);
  // As of `sequence`: the table may have moved on while the serving was made.
  void keep(std::string key, ServingRef serving, std::uint64_t sequence);

  Registry& registry_;
  BlobStore& blobs_;
  Publisher& publisher_;
  Pool& pool_;
  QuotaGate& quotas_;
  CancelToken stop_;
  EnvironmentPolicy environments_;
  Registry::Snapshot table_;
  // By the name as it is written in requests. Bounded: 10,000 functions called once cost a list of
  // names.
  std::unordered_map<std::string, Cached> cache_;
  std::list<std::string> recent_;  // the most recently made first
};

}  // namespace mayfly
