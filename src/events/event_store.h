// Events on the disk: the queue, and the payloads and results that it names, as blobs in a store of
// their own. A blob goes when no event names it any more, and not before: what is about to be named
// is pinned. Everything blocks, and may be called from any thread but the loop's.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "registry/pins.h"
#include "store/blob_store.h"
#include "store/work_queue.h"

namespace mayfly {

class EventStore {
 public:
  // Whether something else than an event names the blob.
  using NamedElsewhere = std::function<Result<bool>(const Digest&)>;
  EventStore(WorkQueue& queue, BlobStore& blobs, const Clock& clock,  // all outlive me
             NamedElsewhere named_elsewhere = nullptr)
      : queue_(queue), blobs_(blobs), pins_(clock), named_elsewhere_(std::move(named_elsewhere)) {}

  // Durable when it returns. The errors of WorkQueue::enqueue, and storage_full.
  Result<WorkQueue::Enqueued> accept(WorkSpec spec, std::string_view payload, std::uint64_t limit);
  Result<std::string> payload(const WorkItem& item) const;
  // data_loss: its bytes are missing.
  Result<std::string> result(const WorkItem& item) const;
  // nullopt: it is larger than that, or there is none.
  Result<std::optional<std::string>> result_up_to(const WorkItem& item, std::size_t most) const;

  struct Answer {
    std::string detail;  // of its head
    std::string body;
    std::string receipt;
  };
  Status complete(const Lease& lease, WallTime now, Answer answer);

  // Bytes of something else than an event, which `name` is to name: where it cannot, they go.
  Status keep(std::string_view bytes, const std::function<Status(const Digest&)>& name);
  Result<std::string> read(const Digest& digest) const { return get(digest); }
  // Of what named them and does no more.
  Status drop(const Digest& digest) { return remove_unnamed({digest}); }

  // What WorkQueue::sweep says, and removes what is named no more.
  Result<std::uint64_t> sweep(WallTime now);
  // Removes what a process left that died between writing a blob and naming it.
  Status remove_orphans();

  WorkQueue& queue() { return queue_; }

 private:
  Result<Digest> put(std::string_view bytes, Pin& pin);
  Result<std::string> get(const Digest& digest) const;
  Result<bool> is_named(const Digest& digest);
  Status remove_unnamed(const std::vector<Digest>& digests);

  WorkQueue& queue_;
  BlobStore& blobs_;
  Pins pins_;
  NamedElsewhere named_elsewhere_;
};

}  // namespace mayfly
