// Copies of requests for versions whose answers nobody gets. A copy is taken when the request is
// decoded, and offered once its caller has been answered; it then waits in a line of its project
// and runs as a guest (dispatch/policy.h) in processes of its own, when the node has nothing better
// to do. Projects take turns, and none has more than one copy running: however many and however
// slow the copies of one are, those of another run. What waits longer than kPatience, finds
// kWaiting others of its project or no memory, or is too large is dropped and counted. So a shadow
// neither delays nor fails a caller's request, and it is metered as an invocation of its own, of
// its own version (caller kShadowCaller).
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
#include <string_view>
#include <utility>
#include <vector>

#include "async/cancel.h"
#include "async/gate.h"
#include "async/loop.h"
#include "async/task.h"
#include "async/timer.h"
#include "core/invocation.h"
#include "dispatch/dispatcher.h"
#include "serving/catalog.h"
#include "serving/comparison.h"
#include "serving/copy_memory.h"
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
  // All copies, and the answers that they are to be compared with, from the copying on.
  static constexpr Bytes kMemory = mib(64);
  static constexpr std::size_t kWaiting = 32;  // of a project, their callers answered
  static constexpr std::size_t kRunning = 4;   // of all projects
  // Long enough for the runs of some others to end.
  static constexpr Duration kPatience = std::chrono::seconds(5);

  explicit Shadows(Parts parts)
      : parts_(parts),
        gate_(parts.loop),
        look_(parts.loop, [this] { look(); }),
        again_(parts.loop, [this] { look(); }) {}

 private:
  struct CopiedRequest {
    VersionNumber shadow;
    RequestMemory request;
    CopyMemory::Hold held;
  };
  struct HeldAnswer {
    KeptAnswer answer;
    CopyMemory::Hold held;
  };

 public:
  // A request that some shadows of its function want, and, later, its answer. Dies before me.
  class Copy {
   private:
    friend class Shadows;
    ServingRef serving_;
    std::vector<CopiedRequest> requests_;  // one for each shadow
    std::shared_ptr<const HeldAnswer> answer_;
  };

  // Called with the outcome of every copy that ran, and the difference where both answered. Set
  // before the first.
  using OnResult =
      std::function<void(const Serving& shadow, const Outcome&, const Difference* difference)>;
  void on_result(OnResult listener) { on_result_ = std::move(listener); }

  // nullopt: no shadow wants it. `key` is the request's (core/traffic.h).
  std::optional<Copy> copy(const ServingRef& serving, std::uint64_t key, RequestMemory& request);
  // Keeps what the caller gets. False: it is larger than kLargest or finds no memory, and the copy
  // is dropped.
  bool keep(Copy& copy, const Reply& reply);
  // The caller has its answer.
  void offer(Copy copy, const std::string& request_id, Duration timeout);

  // A request that nobody sent, asked of a version as a copy of one is: once there is room, as a
  // guest, and recorded as a shadow's. `cancel` ends the wait and the run. ResourceExhausted, which
  // is not recorded: there was no room for kPatience.
  Task<Outcome> ask(ServingRef version, RequestMemory request, std::string request_id,
                    CancelToken cancel);

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
    CopiedRequest copy;
    std::shared_ptr<const HeldAnswer> answer;
    std::string request_id;
    Duration timeout{};
    TimePoint offered{};
  };
  // What a project's copies wait in.
  struct Line {
    std::deque<Waiting> waiting;
    bool running = false;  // one of them
  };
  using Lines = std::map<std::string, Line, std::less<>>;

  std::optional<CopiedRequest> copied(const Serving& serving, VersionNumber shadow,
                                      RequestMemory& request);
  bool full(std::string_view project) const;
  // Starts what may run, as far as there is room, and drops what has waited too long.
  void look();
  void drop_late();
  Lines::iterator next();  // whose turn it is; end(): nobody may
  Task<void> serve(std::string project, Waiting waiting);
  Task<void> run(Waiting waiting);
  struct Question {
    ServingRef version;
    RequestMemory request;
    std::string request_id;
    Duration timeout{};
    CancelToken cancel;
  };
  Task<Outcome> predict(Question question);
  void drop(const Serving& serving, VersionNumber shadow);
  void judge(const Waiting& waiting, const Serving& shadow, const Outcome& outcome);
  // null: the function has been deleted.
  Comparison* comparison(const Serving& serving, VersionNumber shadow);

  Parts parts_;
  OnResult on_result_ = [](const Serving&, const Outcome&, const Difference*) {};
  Gate gate_;
  CancelSource closing_;
  CopyMemory memory_{kMemory};
  Lines lines_;              // by project
  std::string last_;         // project whose turn it was
  std::size_t running_ = 0;  // copies
  TurnEnd look_;
  Timer again_;
  std::map<std::uint64_t, Pairs> results_;  // by function, from its first copy on
};

}  // namespace mayfly
