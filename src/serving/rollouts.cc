#include "serving/rollouts.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "base/log.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "serving/rollout_evidence.h"
#include "serving/rollout_fit.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;
using rollout::Move;
using rollout::StepKind;

constexpr Duration kLookEvery = 1s;
constexpr Duration kSave = 10s;
constexpr Duration kRehearseAgain = 1min;
constexpr std::uint64_t kHeldOutRows = 500;  // at most, unless more samples are asked for
constexpr std::string_view kHistoryKind = "rollout";

const Author kSelf{.who = "rollout", .why = "rollout"};

// Of a hold: which checks hold, beside lacking time and samples.
std::string holds_of(const rollout::Decision& decision) {
  std::string holds;
  for (const rollout::Finding& finding : decision.findings) {
    const bool waits =
        finding.check == rollout::Check::Time || finding.check == rollout::Check::Samples;
    if (finding.verdict != rollout::Verdict::Hold || waits) continue;
    holds += fmt::format("{} {};", rollout::slug(finding.check), finding.subject);
  }
  return holds;
}

Json decision_json(const rollout::Decision& decision) {
  return Json::parse(rollout::to_json(decision));
}

// Of the function's history.
Json line_of(const RolloutState& state, std::string_view what, const Json& detail) {
  Json line{{"version", state.challenger.value},
            {"champion", state.champion.value},
            {"what", what},
            {"now", rollout::to_string(state.step())}};
  line.update(detail);
  return line;
}

std::string why_no_rows(std::string_view why) {
  return fmt::format("too few requests, and no held-out rows to judge on: {}", why);
}

std::string_view word_of(Rollouts::Order order) {
  switch (order) {
    case Rollouts::Order::Approve:
      return "approve";
    case Rollouts::Order::Pause:
      return "pause";
    case Rollouts::Order::Resume:
      break;
  }
  return "resume";
}

// Of a rollout that wants rows, when there are none for good.
std::string held_without_rows(const RolloutState& state, const rollout::Decision& decision,
                              std::string_view why) {
  if (state.snapshot.held_out) return decision.why;  // they may be asked no more
  // Else silence ends it by itself.
  return state.plan.on_silence == rollout::OnSilence::Hold ? why_no_rows(why) : decision.held;
}

}  // namespace

Rollouts::Rollouts(Parts parts)
    : parts_(parts), gate_(parts.loop), timer_(parts.loop, [this] { tick(); }) {}

Rollouts::ActiveRef Rollouts::find(std::string_view name) const {
  const auto found = active_.find(name);
  return found == active_.end() ? nullptr : found->second;
}

Result<Rollouts::ActiveRef> Rollouts::need(const FunctionName& name) const {
  if (ActiveRef active = find(name.str())) return active;
  TRY(parts_.catalog.resolve(name.str(), ""));
  return refuse(reason::kConflict,
                fmt::format("{0} has no rollout under way; mayfly rollout {0} start VERSION begins "
                            "one",
                            name.str()));
}

// ---- Evidence -----------------------------------------------------------------------------------

rollout::Evidence* Rollouts::evidence_of(const Serving& serving, bool shadow) {
  if (active_.empty()) return nullptr;
  const ActiveRef active = find(serving.function);
  const bool same =
      active && static_cast<std::uint64_t>(active->function) == serving.runtime->key.function.value;
  if (!same) return nullptr;
  RolloutState& state = active->state;
  if (serving.version == state.champion && !shadow) return &state.snapshot.champion;
  const bool shadowing = state.step().kind == StepKind::Shadow;
  const bool meant = serving.version == state.challenger && shadow == shadowing;
  return meant ? &state.snapshot.challenger : nullptr;
}

void Rollouts::observe(const Serving& serving, const Outcome& outcome) {
  rollout::Evidence* evidence = evidence_of(serving, false);
  if (evidence == nullptr) return;
  add_outcome(*evidence, serving, outcome,
              {.tier = outcome.tier, .run = outcome.timing.run, .start = outcome.timing.start});
}

// Guests run on what the node can spare, so their times say nothing of the version: they are left
// out, and times are judged from the first step with traffic on.
void Rollouts::observe_shadow(const Serving& shadow, const Outcome& outcome,
                              const Difference* difference) {
  rollout::Evidence* evidence = evidence_of(shadow, true);
  if (evidence == nullptr) return;
  std::optional<rollout::Likeness> likeness;
  if (difference != nullptr) likeness = likeness_of(*difference);
  add_outcome(*evidence, shadow, outcome, {.tier = StartTier::None, .likeness = likeness});
}

// ---- Looking ------------------------------------------------------------------------------------

void Rollouts::count_time(Active& active) const {
  const TimePoint now = parts_.loop.now();
  active.state.snapshot.time_in_step += now - active.counted;
  active.counted = now;
}

void Rollouts::tick() {
  if (gate_.closed()) return;
  const auto looked_at = active_;
  for (const auto& [name, active] : looked_at) {
    if (!active->moving) look_at(active);
  }
  if (!active_.empty()) timer_.arm_in(kLookEvery);
}

void Rollouts::look_at(const ActiveRef& active) {
  const auto function = parts_.catalog.table()->find(active->name.str());
  if (!function || function->id != active->function) return forget(active->name.str());
  const RolloutState& state = active->state;
  if (!is_as(*function, traffic_of(state, state.snapshot.step, function->routing->traffic))) {
    active->moving = true;
    parts_.loop.spawn(end(active, "ended", {{"why", "its traffic was moved by hand"}}, kSelf));
    return;
  }
  count_time(*active);
  rollout::Decision decision = rollout::judge(state.plan, state.snapshot);
  if (decision.move != Move::Hold) {
    active->moving = true;
    parts_.loop.spawn(apply(active, std::move(decision)));
    return;
  }
  if (decision.wants_rows && parts_.loop.now() >= active->rehearse_at) {
    active->rehearse_at = TimePoint::max();
    parts_.loop.spawn(rehearse(active));
  }
  const std::string holds = holds_of(decision);
  if (!holds.empty() && active->holds.insert(holds).second)
    parts_.loop.spawn(record_hold(active, std::move(decision)));
  if (parts_.loop.now() - active->saved >= kSave) parts_.loop.spawn(keep(active));
}

void Rollouts::forget(std::string_view name) {
  const auto found = active_.find(name);
  if (found == active_.end()) return;
  found->second->over->cancel();
  active_.erase(found);
}

// ---- Held-out rows ------------------------------------------------------------------------------

Task<void> Rollouts::rehearse(ActiveRef active) {
  const auto hold = gate_.hold();
  if (!hold) co_return;
  const RolloutState& state = active->state;
  const HeldOutAsk ask{
      .function = active->name,
      .champion = state.champion,
      .challenger = state.challenger,
      .least = state.plan.min_samples,
      .most = std::clamp(state.plan.min_samples, kHeldOutRows, rollout::kMostHeldOutRows)};
  const auto decides = [&state](const rollout::HeldOut& seen) {
    rollout::RolloutSnapshot with = state.snapshot;
    if (!with.held_out) with.held_out.emplace();
    with.held_out->merge(seen);
    return !rollout::judge(state.plan, with).wants_rows;
  };
  Result<rollout::HeldOut> seen =
      refuse(reason::kConflict, "this node asks nobody about held-out rows");
  if (rehearse_) seen = co_await rehearse_(ask, decides, active->over->token());
  if (alive(active)) co_await note_rehearsal(active, std::move(seen));
}

// What the platform is to blame for is tried again; that there are no rows stays so.
Task<void> Rollouts::note_rehearsal(ActiveRef active, Result<rollout::HeldOut> seen) {
  if (seen) {
    active->no_rows.clear();
    active->rehearse_at = parts_.loop.now() + kRehearseAgain;
    const bool again = active->state.snapshot.held_out.has_value();
    if (!again) active->state.snapshot.held_out.emplace();
    active->state.snapshot.held_out->merge(*seen);
    const std::uint64_t rows = seen->rows;
    co_await save(active);
    if (again) co_return;
    const std::string why =
        fmt::format("judged on held-out rows: {} of them, as too few requests came within {}", rows,
                    to_string(active->state.plan.max_wait));
    co_return co_await record(active, "held_out", {{"rows", rows}, {"why", why}}, kSelf);
  }
  const Error& error = seen.error();
  const bool passes = error.code == Code::Unavailable || error.code == Code::Cancelled ||
                      error.code == Code::ResourceExhausted;
  if (passes) active->rehearse_at = parts_.loop.now() + kRehearseAgain;
  active->no_rows_for_good = !passes;
  if (std::exchange(active->no_rows, error.message) == error.message) co_return;
  co_await record(active, "hold", {{"why", why_no_rows(error.message)}}, kSelf);
}

// ---- Moving -------------------------------------------------------------------------------------

// A version that cannot even be started goes back. What fails otherwise is tried again with the
// next look.
Task<void> Rollouts::apply(ActiveRef active, rollout::Decision decision) {
  const auto hold = gate_.hold();
  if (!hold) co_return;
  Status moved = co_await move(active, decision);
  if (!moved && moved.error().reason == reason::kStartFailed) {
    decision.move = Move::RollBack;
    decision.why = moved.error().message;
    moved = co_await move(active, decision);
  }
  if (!moved && alive(active)) {
    LOG(warn, "rollout cannot move traffic", {"function", active->name.str()},
        {"error", moved.error().message});
  }
  active->moving = false;
}

Task<Status> Rollouts::move(ActiveRef active, rollout::Decision decision) {
  Json detail = decision_json(decision);
  const Author author{.who = kSelf.who, .why = decision.why};
  if (decision.move == Move::Promote) {
    CO_TRY(FunctionTable::Entry seen, untouched(*active));
    CO_TRY_STATUS(co_await enter(active, decision.step, author, std::move(seen)));
    co_await record(active, "promote", std::move(detail), author);
  } else if (decision.move == Move::RollBack) {
    CO_TRY_STATUS(co_await go_back(active, author));
    co_await end(active, "rollback", std::move(detail), author);
  } else {
    co_await end(active, "done", std::move(detail), author);
  }
  co_return Status{};
}

// The function as it is, if that is what the rollout has made of it, or is making of it at this
// moment: whoever moved its traffic otherwise has decided.
Result<FunctionTable::Entry> Rollouts::untouched(const Active& active) const {
  FunctionTable::Entry function = parts_.catalog.table()->find(active.name.str());
  if (!function || function->id != active.function)
    return refuse(reason::kUnknownFunction, active.name.str() + " was deleted");
  const RolloutState& state = active.state;
  const Traffic& now = function->routing->traffic;
  const bool as_recorded = is_as(*function, traffic_of(state, state.snapshot.step, now));
  const bool as_before = function->current == state.champion && !now.split() && now.shadows.empty();
  if (as_recorded || (active.moving && (as_before || step_of(state, *function)))) return function;
  return refuse(reason::kConflict,
                fmt::format("the traffic of {} was moved by hand meanwhile", active.name.str()));
}

// From what was `seen` on. Whoever aborts the rollout does not wait for it: then what was not moved
// yet stays where it is, and what was goes back.
Task<Status> Rollouts::enter(ActiveRef active, std::uint32_t step, Author author,
                             FunctionTable::Entry seen) {
  RolloutState& state = active->state;
  const StepTraffic wanted = traffic_of(state, step, seen->routing->traffic);
  const auto ended = [&active] {
    return refuse(reason::kConflict,
                  fmt::format("the rollout of {} was ended meanwhile", active->name.str()));
  };
  if (wanted.traffic.shadows.empty()) {  // a shadow starts when there is room
    CO_TRY_STATUS(co_await parts_.traffic.warm(active->name, {state.challenger}));
  }
  if (!alive(active) || active->aborting) co_return ended();
  const bool whole = wanted.champion == state.challenger;
  auto moved = whole ? co_await parts_.traffic.point(active->name, state.challenger, author, seen)
                     : co_await parts_.traffic.split(active->name, wanted.traffic, author, seen);
  if (!moved) {
    // It may have been moved, and only what follows that have failed.
    const auto now = parts_.catalog.table()->find(active->name.str());
    if (!now || now->id != active->function || !is_as(*now, wanted))
      co_return std::unexpected(std::move(moved).error());
  }
  if (!alive(active) || active->aborting) {
    if (moved)
      (void)co_await parts_.traffic.go_back_to(active->name, state.champion, author, *moved);
    co_return ended();
  }
  state.snapshot = rollout::enter_step(state.plan, std::move(state.snapshot), step);
  active->counted = parts_.loop.now();
  active->holds.clear();
  co_await save(active);
  co_return Status{};
}

Task<Status> Rollouts::go_back(ActiveRef active, Author author) {
  CO_TRY(const FunctionTable::Entry seen, untouched(*active));
  const auto moved =
      co_await parts_.traffic.go_back_to(active->name, active->state.champion, author, seen);
  if (!moved) co_return std::unexpected(moved.error());
  co_return Status{};
}

Task<void> Rollouts::end(ActiveRef active, std::string_view how, Json detail, Author author) {
  const auto hold = gate_.hold();
  if (!hold) co_return;  // the next start of the node ends it
  if (alive(active)) forget(active->name.str());
  co_await record(active, how, std::move(detail), author);
  const Status erased =
      co_await parts_.pool.run([&] { return parts_.registry.erase_rollout(active->function); });
  if (!erased) LOG(error, "rollout not forgotten", {"error", erased.error().message});
}

// ---- Keeping ------------------------------------------------------------------------------------

Task<void> Rollouts::record(ActiveRef active, std::string_view what, Json detail, Author author) {
  const Json line = line_of(active->state, what, detail);
  LOG(info, "rollout", {"function", active->name.str()},
      {"version", active->state.challenger.value}, {"what", what},
      {"step", rollout::to_string(active->state.step())});
  const Status noted = co_await parts_.pool.run(
      [&] { return parts_.registry.note(active->name, kHistoryKind, line.dump(), author); });
  if (!noted) LOG(error, "rollout not recorded", {"error", noted.error().message});
}

Task<void> Rollouts::record_hold(ActiveRef active, rollout::Decision decision) {
  const auto hold = gate_.hold();
  if (hold) co_await record(active, "hold", decision_json(decision), kSelf);
}

Task<void> Rollouts::keep(ActiveRef active) {
  const auto hold = gate_.hold();
  if (hold) co_await save(active);
}

Task<void> Rollouts::save(ActiveRef active) {
  if (find(active->name.str()) != active) co_return;  // it has ended
  active->saved = parts_.loop.now();
  count_time(*active);
  const std::string text = to_json(active->state);
  const Status saved = co_await parts_.pool.run(
      [&] { return parts_.registry.save_rollout(active->function, text); });
  if (!saved) LOG(error, "rollout not kept", {"error", saved.error().message});
}

Status Rollouts::load() {
  const std::vector<RolloutRow> rows = TRY(parts_.registry.rollouts());
  for (const RolloutRow& row : rows) {
    if (const Status adopted = adopt(row); !adopted) {
      LOG(warn, "a rollout does not go on", {"function", row.name},
          {"error", adopted.error().message});
      TRY(note_lost(row, adopted.error().message));
      TRY(parts_.registry.erase_rollout(row.function));
    }
  }
  if (!active_.empty()) timer_.arm_in(kLookEvery);
  return {};
}

// Whoever waits for its end finds one in the history.
Status Rollouts::note_lost(const RolloutRow& row, const std::string& why) {
  const auto name = FunctionName::parse(row.name);
  const auto state = parse_rollout_state(row.json);
  if (!name || !state) return {};  // nobody knows what it was of
  return parts_.registry.note(*name, kHistoryKind, line_of(*state, "ended", {{"why", why}}).dump(),
                              kSelf);
}

// A node that ended between a move of traffic and its record is in the step that its traffic says.
Status Rollouts::adopt(const RolloutRow& row) {
  const TimePoint now = parts_.loop.now();
  auto active = std::make_shared<Active>(Active{.name = TRY(FunctionName::parse(row.name)),
                                                .function = row.function,
                                                .state = TRY(parse_rollout_state(row.json)),
                                                .counted = now,
                                                .saved = now});
  const auto function = parts_.catalog.table()->find(row.name);
  if (!function) return fail(Code::NotFound, "its function is gone");
  RolloutState& state = active->state;
  const std::optional<std::uint32_t> step = step_of(state, *function);
  if (!step)
    return fail(Code::FailedPrecondition,
                "its traffic is that of none of its steps: it was moved by hand, or the node ended "
                "while it went back");
  if (*step != state.snapshot.step)
    state.snapshot = rollout::enter_step(state.plan, std::move(state.snapshot), *step);
  active_[row.name] = std::move(active);
  return {};
}

Task<void> Rollouts::close() {
  timer_.cancel();
  for (const auto& [name, active] : active_) active->over->cancel();
  co_await gate_.close();
  for (const auto& [name, active] : std::exchange(active_, {})) co_await save(active);
}

// ---- From outside -------------------------------------------------------------------------------

Status Rollouts::check_free(const FunctionEntry& function) const {
  const Traffic& traffic = function.routing->traffic;
  const std::string& name = function.name.str();
  if (find(name)) {
    return refuse(
        reason::kConflict,
        fmt::format("a rollout of {0} is under way; mayfly rollout {0} abort ends it", name));
  }
  if (!traffic.split() && traffic.shadows.empty()) return {};
  return refuse(reason::kConflict,
                fmt::format("the traffic of {0} is split or shadowed by hand; mayfly traffic {0} "
                            "{1}=100 ends that",
                            name, function.current.value));
}

VersionNumber Rollouts::champion_of(const FunctionEntry& function) const {
  const ActiveRef active = find(function.name.str());
  return active ? active->state.champion : function.current;
}

Status Rollouts::check_champion(const FunctionEntry& function, VersionNumber champion,
                                VersionNumber version) const {
  const VersionNumber now = champion_of(function);
  if (now == champion) return {};
  return refuse(reason::kConflict,
                fmt::format("version {0} was not compared with version {1}, whose place it would "
                            "take; mayfly rollout {2} start {0} rolls it out all the same",
                            version.value, now.value, local_name(function.name.str())));
}

// What cannot be rolled out ends nothing.
Task<Status> Rollouts::replace(FunctionName name, VersionNumber champion, VersionNumber version,
                               rollout::RolloutPlan plan, Author author) {
  const auto hold = gate_.hold();
  if (!hold) co_return refuse(reason::kDraining, "the node is shutting down");
  CO_TRY(const ResolvedVersion found, parts_.catalog.resolve(name.str(), ""));
  CO_TRY_STATUS(check_champion(*found.function, champion, version));
  CO_TRY_STATUS(
      co_await check_rollout_fit(parts_.catalog, found.function, champion, version, plan));
  CO_TRY(const ResolvedVersion now, parts_.catalog.resolve(name.str(), ""));
  CO_TRY_STATUS(check_champion(*now.function, champion, version));
  if (find(name.str())) {
    Json detail{{"by", version.value},
                {"why", fmt::format("superseded by version {}", version.value)}};
    CO_TRY_STATUS(co_await give_up(name, "superseded", std::move(detail), author));
  }
  co_return co_await start(name, version, std::move(plan), author);
}

Task<Status> Rollouts::start(FunctionName name, VersionNumber version, rollout::RolloutPlan plan,
                             Author author) {
  const auto hold = gate_.hold();
  if (!hold) co_return refuse(reason::kDraining, "the node is shutting down");
  CO_TRY(const ResolvedVersion found, parts_.catalog.resolve(name.str(), ""));
  const FunctionEntry& function = *found.function;
  CO_TRY_STATUS(check_free(function));
  if (version == function.current) {
    co_return refuse(reason::kConflict, fmt::format("version {} of {} gets all requests already",
                                                    version.value, name.str()));
  }
  CO_TRY_STATUS(
      co_await check_rollout_fit(parts_.catalog, found.function, function.current, version, plan));
  CO_TRY_STATUS(check_free(function));  // nothing has begun meanwhile
  const TimePoint now = parts_.loop.now();
  auto active = std::make_shared<Active>(Active{
      .name = name,
      .function = function.id,
      .state = {.champion = function.current, .challenger = version, .plan = std::move(plan)},
      .counted = now,
      .saved = now,
      .moving = true});
  active_[name.str()] = active;
  const Status entered = co_await enter(active, 0, author, found.function);
  if (!entered) {
    if (alive(active)) forget(name.str());
    co_return entered;
  }
  co_await record(active, "start", {{"plan", Json::parse(rollout::to_json(active->state.plan))}},
                  author);
  active->moving = false;
  timer_.arm_in(kLookEvery);
  co_return Status{};
}

Task<Status> Rollouts::order(FunctionName name, Order order, Author author) {
  const auto hold = gate_.hold();
  if (!hold) co_return refuse(reason::kDraining, "the node is shutting down");
  CO_TRY(const ActiveRef active, need(name));
  rollout::RolloutSnapshot& snapshot = active->state.snapshot;
  if (order == Order::Approve) {
    snapshot.approved = true;
  } else {
    snapshot.paused = order == Order::Pause;
  }
  co_await save(active);
  co_await record(active, word_of(order), Json::object(), author);
  co_return Status{};
}

Task<Status> Rollouts::abort(FunctionName name, Author author) {
  return give_up(std::move(name), "abort", Json::object(), std::move(author));
}

Task<Status> Rollouts::give_up(FunctionName name, std::string_view how, Json detail,
                               Author author) {
  const auto hold = gate_.hold();
  if (!hold) co_return refuse(reason::kDraining, "the node is shutting down");
  CO_TRY(const ActiveRef active, need(name));
  const bool idle = !std::exchange(active->moving, true);
  active->aborting = true;
  // A step that is being entered may be there first: then this goes back from it.
  Status back = co_await go_back(active, author);
  if (!back && back.error().reason == reason::kConflict) back = co_await go_back(active, author);
  if (!back && back.error().reason == reason::kConflict)
    co_await end(active, "ended", {{"why", "its traffic was moved by hand"}}, author);
  if (!back) {
    active->aborting = false;
    if (idle) active->moving = false;
    co_return back;
  }
  co_await end(active, how, std::move(detail), author);
  co_return Status{};
}

std::optional<Rollouts::Standing> Rollouts::standing(std::string_view function) const {
  const ActiveRef active = find(function);
  if (!active) return std::nullopt;
  count_time(*active);
  const RolloutState& state = active->state;
  const rollout::Decision decision = rollout::judge(state.plan, state.snapshot);
  return Standing{
      .version = state.challenger,
      .text = fmt::format("{}: {}", rollout::to_string(state.plan.steps.at(state.snapshot.step)),
                          rollout::to_string(decision.move))};
}

Json Rollouts::describe(const FunctionName& name) const {
  const ActiveRef active = find(name.str());
  if (!active) return {{"function", local_name(name.str())}, {"state", "none"}};
  count_time(*active);
  const RolloutState& state = active->state;
  const rollout::RolloutSnapshot& snapshot = state.snapshot;
  Json steps = Json::array();
  for (const rollout::Step& step : state.plan.steps) steps.push_back(rollout::to_string(step));
  const auto seconds = std::chrono::duration<double>(snapshot.time_in_step).count();
  rollout::Decision decision = rollout::judge(state.plan, snapshot);
  if (decision.wants_rows && active->no_rows_for_good)
    decision.held = held_without_rows(state, decision, active->no_rows);
  Json held_out;
  if (snapshot.held_out) held_out = {{"rows", snapshot.held_out->rows}};
  if (!active->no_rows.empty()) held_out["why"] = active->no_rows;
  Json about{{"function", local_name(name.str())},
             {"state", "running"},
             {"version", state.challenger.value},
             {"champion", state.champion.value},
             {"steps", std::move(steps)},
             {"step", snapshot.step},
             {"seconds_in_step", seconds},
             {"requests", snapshot.challenger.requests},
             {"errors", snapshot.challenger.errors},
             {"champion_requests", snapshot.champion.requests},
             {"champion_errors", snapshot.champion.errors},
             {"approved", snapshot.approved},
             {"paused", snapshot.paused},
             {"plan", Json::parse(rollout::to_json(state.plan))},
             {"decision", decision_json(decision)}};
  if (!decision.held.empty()) about["held"] = std::move(decision.held);
  if (!held_out.is_null()) about["held_out"] = std::move(held_out);
  return about;
}

}  // namespace mayfly
