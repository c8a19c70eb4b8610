// Copies of requests for versions whose answers nobody gets. A copy is taken when the request is
// decoded, and offered once its caller has been answered; it then runs as a guest
// (dispatch/policy.h) in processes of its own, one copy at a time, when the node has nothing better
// to do. What waits longer than kPatience, or finds the queue full, is dropped and counted. So a
// shadow neither delays nor fails a caller's request, and it is metered as an invocation of its own
// (caller "shadow").
//
// Loop thread. Comparisons are kept since the node started.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "async/cancel.h"
#include "async/gate.h"
#include "async/loop.h"
#include "async/task.h"
#include "core/invocation.h"
#include "dispatch/dispatcher.h"
#include "gateway/catalog.h"
#include "gateway/comparison.h"
#include "gateway/ledger_writer.h"
#include "gateway/serving.h"

namespace mayfly {

class Shadows {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Catalog& catalog;
    Dispatcher& dispatcher;
    LedgerWriter& ledger;
    InvocationIds& ids;
  };
  // Copying takes the caller's time: what is larger is dropped.
  static constexpr Bytes kLargest = mib(1);
  static constexpr std::size_t kWaiting = 32;
  static constexpr Duration kPatience = std::chrono::seconds(1);

  explicit Shadows(Parts parts) : parts_(parts), gate_(parts.loop) {}

  // A request that some shadows of its function want, and, later, its answer.
  class Copy {
   public:
    void keep(const Reply& reply) { answer_ = keep_answer(reply.outputs); }

   private:
    friend class Shadows;
    ServingRef serving_;
    std::uint64_t received_ = 0;
    std::vector<VersionNumber> shadows_;
    std::vector<RequestMemory> requests_;  // one for each
    KeptAnswer answer_;
  };

  // nullopt: no shadow wants it. `key` is the request's (core/traffic.h).
  std::optional<Copy> copy(const ServingRef& serving, std::uint64_t key, RequestMemory& request);
  // The caller has its answer.
  void offer(Copy copy, std::string request_id, Duration timeout);

  // By function: what stands in core/traffic.h, (version, shadow) → result.
  using Pairs = std::map<std::pair<std::uint32_t, std::uint32_t>, Comparison>;
  const Pairs& comparisons(const std::string& function) const;
  // The function was deleted, or has no shadow any more: its shadows' processes end.
  void forget(const std::string& function, FunctionId id);
  void end(FunctionId id);
  // Drops what waits and waits for what runs.
  Task<void> close();

 private:
  struct Waiting {
    ServingRef serving;
    VersionNumber shadow;
    RequestMemory request;
    std::shared_ptr<const KeptAnswer> answer;
    std::string request_id;
    Duration timeout{};
    TimePoint offered{};
  };
  Task<void> work();
  Task<bool> room(TimePoint until);
  Task<void> run(Waiting waiting);
  Comparison& comparison(const Waiting& waiting);

  Parts parts_;
  Gate gate_;
  CancelSource closing_;
  std::deque<Waiting> waiting_;
  bool working_ = false;
  std::map<std::string, Pairs> results_;
};

}  // namespace mayfly
