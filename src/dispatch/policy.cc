#include "dispatch/policy.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <optional>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr std::array<std::string_view, kActions> kActionNames = {
    "none",           "dispatch",     "fork",
    "build_template", "make_room",    "make_share_room",
    "end_sibling",    "end_instance", "evict_template",
    "wait",           "refuse"};

struct WhyText {
  std::string_view slug;
  std::string_view text;
};
// In the order of the enumerators.
constexpr std::array<WhyText, kWhys> kWhyTexts = {{
    {"nothing_wanted", "nothing is asked for"},
    {"idle_instance", "an instance was idle"},
    {"joins_burst", "it is on its way with others that are as short"},
    {"joins_batch", "it runs together with others of its shape"},
    {"demand", "requests wait and no instance is idle"},
    {"starved", "waited longer than the node's patience with nothing running"},
    {"min_instances", "fewer instances than min_instances"},
    {"keep_warm", "keep_warm wants a template"},
    {"cpu_full", "all cores are taken"},
    {"max_instances", "max_instances are running"},
    {"template_building", "the template is being built"},
    {"backing_off", "starting failed; a pause before the next attempt"},
    {"builds_full", "other templates are being built"},
    {"memory_full", "the node's memory is taken by running work"},
    {"too_large_for_node", "needs more memory than the node may use"},
    {"over_quota", "its project would hold more memory than its quota"},
    {"call_deadlock", "what it waits for is held by those who wait for it"},
    {"sibling_idle", "an idle instance of another version counts towards max_instances"},
    {"yield_memory", "a function without an instance waits for memory"},
    {"idle_timeout", "idle longer than idle_timeout"},
    {"template_timeout", "unused longer than template_timeout"},
    {"memory_pressure", "memory is short and this was the least valuable"},
    {"fresh_per_request", "isolation = \"request\": an instance serves once"},
    {"retired", "the version was deleted"},
    {"asked", "evicted by request"},
    {"bad_reply", "it answered with something malformed"},
    {"deadline", "it ran into the request's deadline"},
    {"client_gone", "the client disconnected"},
    {"crashed", "it died while it ran a request"},
    {"out_of_memory", "it exceeded its memory limit"},
    {"start_failed", "it could not be started"},
    {"template_lost", "the template died"},
    {"stopping", "the node is shutting down"},
}};

std::uint32_t busy(const VersionLoad& version) { return version.starting + version.running; }

// Dispatch and Fork need tokens. nullopt: there are none.
std::optional<Why> cpu_allows(const VersionLoad& version, const NodeLoad& node, Why normally) {
  const bool guest = version.rank == Rank::Guest;
  const std::uint32_t own = guest ? 1 : tokens_of(version.threads, node.tokens);
  const std::uint32_t wanted = node.tokens_used + own;
  if (wanted <= node.tokens) return normally;
  const bool starved =
      !guest && version.queued > 0 && version.function_busy == 0 && version.waited >= node.patience;
  if (starved && wanted <= 2 * node.tokens) return Why::Starved;
  return std::nullopt;
}

// nullopt: the owner may hold so much more.
std::optional<Decision> quota_forbids(Bytes needed, const VersionLoad& version) {
  if (version.quota == Bytes{} || version.quota_used + needed <= version.quota) return std::nullopt;
  const bool caller = version.rank == Rank::Caller;
  const bool could_fit = needed <= version.quota;
  if (caller && could_fit && version.queued > 0 && version.quota_room == Room::MayBeMade) {
    return Decision{Action::MakeShareRoom, Why::OverQuota};
  }
  const bool will_be_free = busy(version) > 0;
  const bool wanted = !caller || version.queued > 0;
  return Decision{will_be_free || !wanted ? Action::Wait : Action::Refuse, Why::OverQuota};
}

// nullopt: the bytes fit. What nobody waits for ends nothing else: two versions that want to be
// kept warm would evict each other for ever.
std::optional<Decision> memory_forbids(Bytes needed, const VersionLoad& version,
                                       const NodeLoad& node) {
  if (needed > node.memory) return Decision{Action::Refuse, Why::TooLargeForNode};
  if (const auto forbidden = quota_forbids(needed, version)) return forbidden;
  // Whoever has an instance does not grow while another function waits for its first.
  const bool has_some = version.function_busy + version.function_idle > 0;
  if (has_some && node.without_memory > 0) return Decision{Action::Wait, Why::MemoryFull};
  if (node.memory_used + needed <= node.memory) return std::nullopt;
  if (version.rank == Rank::Guest) return Decision{Action::Refuse, Why::MemoryFull};
  if (node.room == Room::MayBeMade && version.queued > 0) {
    return Decision{Action::MakeRoom, Why::MemoryFull};
  }
  return Decision{Action::Wait, Why::MemoryFull};
}

Decision build_template(const VersionLoad& version, const NodeLoad& node, Why why) {
  const bool guest = version.rank == Rank::Guest;
  if (!guest && node.builds >= node.max_builds) return {Action::Wait, Why::BuildsFull};
  // The first instance must fit as well, or the template would be built in vain.
  const Bytes needed = version.template_bytes + version.instance_bytes;
  const auto forbidden = memory_forbids(needed, version, node);
  return forbidden.value_or(Decision{Action::BuildTemplate, why});
}

// A guest waits for no core: whoever waits is in the way of those behind him.
Decision cpu_full(const VersionLoad& version) {
  return {version.rank == Rank::Guest ? Action::Refuse : Action::Wait, Why::CpuFull};
}

Decision fork(const VersionLoad& version, const NodeLoad& node, Why why) {
  switch (version.template_state) {
    case TemplateState::None:
      return build_template(version, node, why);
    case TemplateState::Building:
      return {Action::Wait, Why::TemplateBuilding};
    case TemplateState::BackingOff:
      return {Action::Wait, Why::BackingOff};
    case TemplateState::Ready:
      break;
  }
  const std::optional<Why> allowed = cpu_allows(version, node, why);
  if (!allowed) return cpu_full(version);
  const auto forbidden = memory_forbids(version.instance_bytes, version, node);
  return forbidden.value_or(Decision{Action::Fork, *allowed});
}

Decision use_idle(const VersionLoad& version, const NodeLoad& node) {
  const bool others_wait = node.without_memory > 0;
  if (others_wait && version.function_busy + version.function_idle > 1) {
    return {Action::EndInstance, Why::YieldMemory};
  }
  const std::optional<Why> allowed = cpu_allows(version, node, Why::IdleInstance);
  if (!allowed) return cpu_full(version);
  return {Action::Dispatch, *allowed};
}

}  // namespace

std::string_view to_string(Action action) {
  return kActionNames.at(static_cast<std::size_t>(action));
}
std::string_view slug(Why why) { return kWhyTexts.at(static_cast<std::size_t>(why)).slug; }
std::string_view explain(Why why) { return kWhyTexts.at(static_cast<std::size_t>(why)).text; }

std::string_view to_string(TemplateState state) {
  constexpr std::array<std::string_view, 4> kNames = {"none", "building", "ready", "backing_off"};
  return kNames.at(static_cast<std::size_t>(state));
}

std::uint32_t tokens_of(std::uint32_t threads, std::uint32_t tokens) {
  return std::clamp(threads, 1U, std::max(tokens, 1U));
}

Decision decide(const VersionLoad& version, const NodeLoad& node) {
  const bool below_min = version.idle + busy(version) < version.min_instances;
  if (version.queued > 0) {
    if (version.idle > 0) return use_idle(version, node);
    const std::uint32_t live = version.function_busy + version.function_idle;
    if (version.max_instances != 0 && live >= version.max_instances) {
      if (version.function_idle > 0) return {Action::EndSibling, Why::SiblingIdle};
      return {Action::Wait, Why::MaxInstances};
    }
    return fork(version, node, Why::Demand);
  }
  if (below_min) return fork(version, node, Why::MinInstances);
  if (version.keep == Keep::Template && version.template_state == TemplateState::None) {
    return build_template(version, node, Why::KeepWarm);
  }
  return {};
}

bool joins_burst(const BurstView& burst) {
  if (burst.mean_run == Duration::zero()) return false;
  const Duration together = burst.mean_run * (burst.held + 1);
  return together <= (burst.others > 0 ? kWorthWaking : kLongestBurst);
}

TimePoint batch_release(const BatchView& view) {
  const std::uint32_t enough = view.preferred.empty() ? view.cap : view.preferred.front();
  if (view.waiting >= enough) return TimePoint::min();
  return std::min(view.oldest + view.max_delay, view.deadline - 2 * view.expected);
}

std::uint64_t batch_rows(const BatchShare& share) {
  const std::uint64_t most = std::min<std::uint64_t>(share.waiting, share.cap);
  const auto larger = std::ranges::upper_bound(share.preferred, most);
  if (larger != share.preferred.begin()) return *std::prev(larger);
  const std::int64_t worth = std::max<std::int64_t>(share.expected / kWorthWaking, 1);
  const std::uint64_t parts =
      std::min(static_cast<std::uint64_t>(worth), std::uint64_t{share.instances});
  return std::min(most, (share.waiting + parts - 1) / parts);
}

bool never_ends(std::span<const HeldUp> waiting, std::size_t of) {
  std::vector<std::size_t> looked_at = {of};
  for (std::size_t i = 0; i < looked_at.size(); ++i) {
    for (const std::optional<std::size_t>& holder : waiting[looked_at[i]].holders) {
      if (!holder) return false;
      if (std::ranges::find(looked_at, *holder) == looked_at.end()) looked_at.push_back(*holder);
    }
  }
  return true;
}

Upkeep upkeep(const RestView& view, TimePoint now) {
  const bool retiring = view.standing == Standing::Retiring;
  Upkeep result;
  if (view.idle > 0 && view.queued == 0) {
    if (retiring) return {{Action::EndInstance, Why::Retired}, now};
    if (view.idle + view.busy > view.min_instances) {
      const TimePoint due = view.oldest_idle + view.idle_timeout;
      if (due <= now) return {{Action::EndInstance, Why::IdleTimeout}, now};
      result.next = due;
    }
  }
  const bool unused = view.template_state == TemplateState::Ready && view.queued == 0;
  if (!unused) return result;
  if (retiring) return {{Action::EvictTemplate, Why::Retired}, now};
  if (view.keep == Keep::Template || view.busy > 0) return result;
  const TimePoint due = view.last_used + view.template_timeout;
  if (due <= now) return {{Action::EvictTemplate, Why::TemplateTimeout}, now};
  result.next = std::min(result.next, due);
  return result;
}

Duration estimated_wait(const QueueView& view) {
  std::uint32_t parallel = std::max(view.tokens / tokens_of(view.threads, view.tokens), 1U);
  if (view.max_instances != 0) parallel = std::min(parallel, view.max_instances);
  return view.mean_run * view.queued / parallel;
}

std::chrono::seconds retry_after(Duration estimate) {
  return std::clamp(std::chrono::ceil<std::chrono::seconds>(estimate), 1s, 60s);
}

Duration back_off(std::uint32_t failures) {
  const std::uint32_t doublings = std::min(failures == 0 ? 0U : failures - 1, 10U);
  return std::min<Duration>(500ms * (1U << doublings), kLongestBackOff);
}

}  // namespace mayfly
