// Automatic rollouts: what callers and shadows meet becomes evidence, rollout/judge.h decides once
// a second, and traffic moves accordingly. Every move is a line of the function's history with its
// numbers, and so is every new reason to hold. Evidence is kept every ten seconds and at each move:
// a restart loses no more than that, and time while the node is down does not count. Where requests
// do not come, both versions are asked about held-out rows (rehearsal.h).
//
// A rollout ends by itself when somebody else moves the function's traffic: then a person has
// decided. Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "async/timer.h"
#include "core/json_reader.h"
#include "registry/registry.h"
#include "rollout/judge.h"
#include "serving/catalog.h"
#include "serving/comparison.h"
#include "serving/rehearsal.h"
#include "serving/rollout_state.h"
#include "serving/serving.h"
#include "serving/traffic_switch.h"

namespace mayfly {

class Rollouts {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Pool& pool;
    Registry& registry;
    Catalog& catalog;
    TrafficSwitch& traffic;
  };
  explicit Rollouts(Parts parts);

  // How evidence is had where there are no requests; without it, such rollouts hold. Set before
  // the first.
  using Rehearse = std::function<Task<Result<rollout::HeldOut>>(
      HeldOutAsk ask, Rehearsal::Decides decides, CancelToken stop)>;
  void rehearse_with(Rehearse rehearse) { rehearse_ = std::move(rehearse); }

  // What was under way when the node ended goes on. Once, before the first request.
  Status load();
  // Records what is known now and starts nothing any more.
  Task<void> close();

  // conflict: one is under way, or the function's traffic is split or shadowed already.
  Status check_free(const FunctionEntry& function) const;
  // As check_free; unknown_version, start_failed.
  Task<Status> start(FunctionName name, VersionNumber version, rollout::RolloutPlan plan,
                     Author author);
  // As start, of a version that was compared with `champion`: what is under way of an older one is
  // ended for it, and the record says so. conflict: it would take the place of another one.
  Task<Status> replace(FunctionName name, VersionNumber champion, VersionNumber version,
                       rollout::RolloutPlan plan, Author author);
  // What a version that comes now is to take the place of: of a rollout under way the champion,
  // at its last step, too.
  VersionNumber champion_of(const FunctionEntry& function) const;
  bool under_way(const FunctionName& name) const { return find(name.str()) != nullptr; }
  enum class Order : std::uint8_t {
    Approve,  // lifts holds for a shift of outputs, for the whole rollout
    Pause,    // no promotion; harm still rolls back
    Resume,
  };
  // conflict: none is under way. Also of abort.
  Task<Status> order(FunctionName name, Order order, Author author);
  // All traffic to the champion. conflict also where it was moved by hand: then it stays as it is,
  // and the rollout is over.
  Task<Status> abort(FunctionName name, Author author);
  Json describe(const FunctionName& name) const;  // {"state":"none"} or all there is
  // What is being rolled out, at which step, and what is thought of it: "5 %: hold". nullopt: no
  // rollout is under way.
  struct Standing {
    VersionNumber version;
    std::string text;
  };
  std::optional<Standing> standing(std::string_view function) const;

  // A caller's request that traffic gave to the version, and what came of it. Only own faults of
  // the version count as failures; what failed otherwise is no evidence.
  void observe(const Serving& serving, const Outcome& outcome);
  // The same of a copy; `difference` to what the caller got is null when there is no answer.
  void observe_shadow(const Serving& shadow, const Outcome& outcome, const Difference* difference);

 private:
  struct Active {
    FunctionName name;
    std::int64_t function = 0;  // of this life of the name
    RolloutState state;
    TimePoint counted;  // until when time_in_step counts
    TimePoint saved;
    std::set<std::string> holds = {};  // by which checks, as recorded in this step
    std::string no_rows = {};          // why no held-out rows are there
    bool no_rows_for_good = false;     // and nothing will change that
    TimePoint rehearse_at{};           // not before; while it is done, never
    // Nobody wants to know of held-out rows any more.
    std::shared_ptr<CancelSource> over = std::make_shared<CancelSource>();
    bool moving = false;    // a move of its traffic is under way
    bool aborting = false;  // whoever moves it goes back
  };
  using ActiveRef = std::shared_ptr<Active>;

  ActiveRef find(std::string_view name) const;
  Result<ActiveRef> need(const FunctionName& name) const;
  rollout::Evidence* evidence_of(const Serving& serving, bool shadow);
  Status check_champion(const FunctionEntry& function, VersionNumber champion,
                        VersionNumber version) const;
  Status adopt(const RolloutRow& row);
  Status note_lost(const RolloutRow& row, const std::string& why);
  void count_time(Active& active) const;
  void tick();
  void look_at(const ActiveRef& active);
  void forget(std::string_view name);
  Task<void> rehearse(ActiveRef active);
  Task<void> note_rehearsal(ActiveRef active, Result<rollout::HeldOut> seen);
  Task<void> apply(ActiveRef active, rollout::Decision decision);
  Task<Status> move(ActiveRef active, rollout::Decision decision);
  bool alive(const ActiveRef& active) const { return find(active->name.str()) == active; }
  Result<FunctionTable::Entry> untouched(const Active& active) const;
  Task<Status> enter(ActiveRef active, std::uint32_t step, Author author,
                     FunctionTable::Entry seen);
  Task<Status> give_up(FunctionName name, std::string_view how, Json detail, Author author);
  Task<Status> go_back(ActiveRef active, Author author);
  Task<void> end(ActiveRef active, std::string_view how, Json detail, Author author);
  Task<void> record(ActiveRef active, std::string_view what, Json detail, Author author);
  Task<void> record_hold(ActiveRef active, rollout::Decision decision);
  Task<void> keep(ActiveRef active);
  Task<void> save(ActiveRef active);

  Parts parts_;
  Rehearse rehearse_;
  Gate gate_;
  Timer timer_;                                           // armed while a rollout is under way
  std::map<std::string, ActiveRef, std::less<>> active_;  // by function
};

}  // namespace mayfly
