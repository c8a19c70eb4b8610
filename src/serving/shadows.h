// Copies of requests for versions whose answers nobody gets. A copy is taken when the request is
// decoded, and offered once its caller has been answered; it then runs as a guest
// (dispatch/policy.h) in processes of its own, one copy at a time, when the node has nothing better
// to do. What waits longer than kPatience, finds kWaiting others, or is too large is dropped and
// counted. So a shadow neither delays nor fails a caller's request, and it is metered as an
// invocation of its own, of its own version (caller "shadow").
//
// Loop thread. Comparisons are kept since the node started.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
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
#include "serving/catalog.h"
#include "serving/comparison.h"
#include "serving/ledger_writer.h"
#include "serving/serving.h"

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

  // A place among the kWaiting, from the copy's making to the end of its run.
  class Place {
   public:
    explicit Place(std::size_t& taken) : taken_(&++taken) {}
    Place(Place&& other) noexcept : taken_(std::exchange(other.taken_, nullptr)) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(taken_, other.taken_);
      return *this;
    }
    ~Place() {
      if (taken_ != nullptr) --*taken_;
    }

   private:
    std::size_t* taken_;
  };

  // A request that some shadows of its function want, and, later, its answer. Dies before me.
  class Copy {
   private:
    friend class Shadows;
    ServingRef serving_;
    std::vector<VersionNumber> shadows_;
    std::vector<RequestMemory> requests_;  // one for each
    std::vector<Place> places_;            // the same
    KeptAnswer answer_;
  };

  // Called with the outcome of every copy that ran, and the difference where both answered. Set
  // before the first.
  using OnResult =
      std::function<void(const Serving& shadow, const Outcome&, const Difference* difference)>;
  void on_result(OnResult listener) { on_result_ = std::move(listener); }

  // nullopt: no shadow wants it. `key` is the request's (core/traffic.h).
  std::optional<Copy> copy(const ServingRef& serving, std::uint64_t key, RequestMemory& request);
  // Keeps what the caller gets. False: it is larger than kLargest, and the copy is dropped.
  bool keep(Copy& copy, const Reply& reply);
  // The caller has its answer.
  void offer(Copy copy, const std::string& request_id, Duration timeout);

  // (version, shadow) → result.
  using Pairs = std::map<std::pair<std::uint32_t, std::uint32_t>, Comparison>;
  const Pairs& comparisons(FunctionId function) const;
  // The function was deleted.
  void forget(FunctionId function);
  // Its shadows' processes end; what shadows it still starts anew.
  void end(FunctionId function);
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
    Place place;
  };
  Task<void> work();
  Task<bool> room(TimePoint until);
  Task<void> run(Waiting waiting);
  void drop(const Waiting& waiting);
  void judge(const Waiting& waiting, const Serving& shadow, const Outcome& outcome);
  // null: the function has been deleted.
  Comparison* comparison(const Waiting& waiting);

  Parts parts_;
  OnResult on_result_ = [](const Serving&, const Outcome&, const Difference*) {};
  Gate gate_;
  CancelSource closing_;
  std::size_t taken_ = 0;  // places
  std::deque<Waiting> waiting_;
  bool working_ = false;
  std::map<std::uint64_t, Pairs> results_;  // by function, from its first copy on
};

}  // namespace mayfly
