// What the scheduler does with environment templates: prepares one where nobody waits, gives it to
// the next version that is started, ends it last.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "core/units.h"
#include "dispatch/scheduler.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// Of guests, which environment templates are while they are prepared, against the 100 of others.
constexpr std::uint32_t kGuestWeight = 2;
// What was ended for others' memory is not brought back sooner.
constexpr Duration kEnvironmentPause = 10s;

// No name of a function, whose logs nobody but its project reads.
std::string label_of(const VersionRuntime& runtime) {
  return fmt::format("environment:{}", runtime.environment.filename().native().substr(0, 12));
}

}  // namespace

EnvironmentSlot* Scheduler::environment_of(const VersionRuntime& runtime) const {
  if (runtime.environment_key.empty()) return nullptr;
  const auto found = environments_.find(runtime.environment_key);
  return found == environments_.end() ? nullptr : found->second.get();
}

// One that waits, and is known to suit no less than any.
EnvironmentSlot* Scheduler::ready_environment(const VersionRuntime& runtime) const {
  EnvironmentSlot* slot = environment_of(runtime);
  if (slot == nullptr || slot->state != EnvironmentState::Ready) return nullptr;
  // What others import may be more than this version may have.
  if (runtime.template_memory.count > 0 && slot->bytes > runtime.template_memory) return nullptr;
  const auto unfit = slot->unfit.find(runtime.key);
  return unfit != slot->unfit.end() && now_ < unfit->second ? nullptr : slot;
}

StartTier Scheduler::next_start(const VersionRuntime& runtime) {
  tick();
  if (const VersionPool* pool = find(runtime.key)) {
    if (!pool->idle.empty()) return StartTier::Hot;
    if (pool->tmpl.state == TemplateState::Ready) return StartTier::Template;
  }
  return ready_environment(runtime) == nullptr ? StartTier::Cold : StartTier::Environment;
}

// ---- Giving -------------------------------------------------------------------------------------

void Scheduler::start_template(VersionPool& pool, Path artifact, Secrets secrets) {
  const VersionRuntime& runtime = *pool.runtime;
  TemplateSpec spec{.label = runtime.label,
                    .runtime = runtime.kind,
                    .artifact = std::move(artifact),
                    .environment = runtime.environment,
                    .secrets = std::move(secrets),
                    .signature = runtime.signature,
                    .cpu_weight = runtime.rank == Rank::Guest ? kGuestWeight : 0,
                    .threads = runtime.threads,
                    .session_after_fork = runtime.session_after_fork,
                    .scratch = runtime.scratch,
                    .memory = runtime.memory,
                    .template_memory = runtime.template_memory,
                    .start_timeout = runtime.start_timeout};
  pool.tmpl.source = TemplateSource::Artifact;
  if (start_from_environment(pool, spec)) return;
  auto started = spawner_.start_template(std::move(spec), template_events(pool));
  if (!started) return start_failed(pool, std::move(started).error());
  pool.tmpl.process = *std::move(started);
}

// False: there is none, or it cannot be given.
bool Scheduler::start_from_environment(VersionPool& pool, const TemplateSpec& spec) {
  EnvironmentSlot* slot = ready_environment(*pool.runtime);
  if (slot == nullptr) return false;
  charge(slot->share.get(), slot->charged, Bytes{});
  slot->state = EnvironmentState::Absent;
  auto given = slot->process->give(spec, template_events(pool));
  bury(std::move(slot->process));
  if (!given) {
    LOG(warn, "environment template not given", {"version", pool.runtime->label},
        {"cause", given.error().message});
    slot->unfit[pool.runtime->key] = now_ + kUnfitFor;
    return false;
  }
  pool.tmpl.process = *std::move(given);
  pool.tmpl.source = TemplateSource::Environment;
  return true;
}

// It did not suit: the version is started as if there had been none.
void Scheduler::start_without_environment(VersionPool& pool, const Error& cause) {
  LOG(info, "started without its environment template", {"version", pool.runtime->label},
      {"cause", cause.message});
  if (EnvironmentSlot* slot = environment_of(*pool.runtime))
    slot->unfit[pool.runtime->key] = now_ + kUnfitFor;
  pool.tmpl.source = TemplateSource::Artifact;
  bury(std::move(pool.tmpl.process));
  loop_.spawn(build(pool.runtime, pool.tmpl.build));
}

// ---- Preparing ----------------------------------------------------------------------------------

// A version of it has been started: from now on its environment is in use.
void Scheduler::use_environment(const VersionPool& pool) {
  const std::string& key = pool.runtime->environment_key;
  if (key.empty() || mode_ == Mode::Stopping) return;
  std::unique_ptr<EnvironmentSlot>& place = environments_[key];
  if (place == nullptr) {
    place = std::make_unique<EnvironmentSlot>(loop_, key, [this, key] {
      Scheduler& self = *this;  // what the slot is forgotten with goes, and this function with it
      const std::string which = key;
      self.tick();
      self.look_after_environment(which);
      self.run();
    });
    place->bytes = pool.tmpl.bytes;
    place->build_time = pool.tmpl.build_time;
  }
  EnvironmentSlot& slot = *place;
  slot.share = pool.runtime->share;
  slot.rate.count(now_);
  slot.last_used = now_;
  std::erase_if(slot.users, [&](const auto& user) { return user->key == pool.runtime->key; });
  slot.users.insert(slot.users.begin(), pool.runtime);
  if (slot.users.size() > kEnvironmentUsers) slot.users.pop_back();
  if (slot.state == EnvironmentState::Absent) {
    slot.state = EnvironmentState::Wanted;
    slot.retry = std::max(slot.retry, now_ + kAfterStart);
  }
  look_after_environment(key);
}

void Scheduler::prepare_environments() {
  if (!environments_wanted_) return;
  environments_wanted_ = false;
  for (const auto& [key, slot] : environments_) {
    if (slot->state != EnvironmentState::Wanted) continue;
    if (slot->retry > now_) continue;  // its timer comes back to it
    environments_wanted_ = true;
    const MemoryShare share = slot->share ? *slot->share : MemoryShare{};
    if (!may_prepare({.tokens = options_.cores,
                      .tokens_used = tokens_used_,
                      .waiting = share_.size() + without_memory_,
                      .builds = builds_,
                      .preparing = preparing_,
                      .needed = slot->bytes,
                      .memory = options_.memory,
                      .memory_used = memory_used_,
                      .quota = share.limit,
                      .quota_used = share.used})) {
      continue;
    }
    slot->state = EnvironmentState::Preparing;
    slot->attempt = ++builds_made_;
    ++preparing_;
    charge(slot->share.get(), slot->charged, slot->bytes);
    loop_.spawn(prepare(key, slot->users, slot->attempt));
    return;  // one at a time
  }
}

Task<void> Scheduler::prepare(std::string key,
                              std::vector<std::shared_ptr<const VersionRuntime>> users,
                              std::uint64_t attempt) {
  const std::optional<Gate::Hold> hold = processes_.hold();
  CHECK(hold.has_value());
  std::string imports;
  for (const auto& user : users) {
    const Result<std::string> seen = co_await user->imports();
    if (seen) imports = merged_imports(imports, *seen);
  }
  EnvironmentSlot* slot = find_attempt(key, attempt);
  if (slot == nullptr) co_return;
  tick();
  const VersionRuntime& newest = *users.front();
  EnvironmentSpec spec{.label = label_of(newest),
                       .environment = newest.environment,
                       .options = newest.environment_options,
                       .imports = std::move(imports),
                       .cpu_weight = kGuestWeight,
                       .threads = newest.threads,
                       .scratch = newest.scratch,
                       .template_memory = newest.template_memory,
                       .start_timeout = newest.start_timeout};
  auto started = spawner_.start_environment(
      std::move(spec),
      {.on_ready =
           [this, key, attempt](Result<TemplateReady> ready) {
             environment_ready(key, attempt, std::move(ready));
           },
       .on_lost = [this, key, attempt](Exit exit) { environment_lost(key, attempt, exit); }});
  if (started) {
    slot->process = *std::move(started);
  } else {
    environment_failed(*slot, started.error());
  }
  run();
}

EnvironmentSlot* Scheduler::find_attempt(const std::string& key, std::uint64_t attempt) const {
  const auto found = environments_.find(key);
  const bool same = found != environments_.end() && found->second->attempt == attempt;
  return same ? found->second.get() : nullptr;
}

void Scheduler::environment_ready(const std::string& key, std::uint64_t attempt,
                                  Result<TemplateReady> ready) {
  tick();
  EnvironmentSlot* slot = find_attempt(key, attempt);
  if (slot == nullptr || slot->state != EnvironmentState::Preparing) return;
  if (!ready) {
    environment_failed(*slot, ready.error());
  } else {
    --preparing_;
    slot->state = EnvironmentState::Ready;
    slot->failures = 0;
    slot->build_time = ready->build;
    if (ready->private_bytes.count != 0) slot->bytes = ready->private_bytes;
    charge(slot->share.get(), slot->charged, slot->bytes);
  }
  run();
}

void Scheduler::environment_lost(const std::string& key, std::uint64_t attempt, Exit exit) {
  tick();
  EnvironmentSlot* slot = find_attempt(key, attempt);
  if (slot == nullptr || slot->state != EnvironmentState::Ready) return;
  environment_failed(*slot, Error{.code = Code::Unavailable,
                                  .message = exit.oom ? "it exceeded its memory limit"
                                                      : fmt::format("it ended (code {}, signal {})",
                                                                    exit.code, exit.signal)});
  run();
}

void Scheduler::environment_failed(EnvironmentSlot& slot, const Error& cause) {
  ++slot.failures;
  LOG(warn, "no environment template", {"cause", cause.message}, {"failures", slot.failures});
  end_environment(slot, now_ + back_off(slot.failures));
}

// ---- Ending -------------------------------------------------------------------------------------

// Brought back where there is room for it, but not before `again`.
void Scheduler::end_environment(EnvironmentSlot& slot, TimePoint again) {
  if (slot.state == EnvironmentState::Preparing) --preparing_;
  slot.state = EnvironmentState::Wanted;
  slot.attempt = 0;
  slot.retry = again;
  charge(slot.share.get(), slot.charged, Bytes{});
  bury(std::move(slot.process));
  look_after_environment(slot.key);
}

void Scheduler::forget_environment(const std::string& key) {
  const auto found = environments_.find(key);
  if (found == environments_.end()) return;
  EnvironmentSlot& slot = *found->second;
  if (slot.state == EnvironmentState::Preparing) --preparing_;
  charge(slot.share.get(), slot.charged, Bytes{});
  bury(std::move(slot.process));
  environments_.erase(found);
}

// Ends one that is no longer in use, and says when to look again.
void Scheduler::look_after_environment(const std::string& key) {
  EnvironmentSlot& slot = *environments_.at(key);
  const auto uses = [&](const auto& entry) {
    return entry.second->runtime->environment_key == key;
  };
  if (std::ranges::any_of(pools_, uses)) slot.last_used = now_;
  const TimePoint until = slot.last_used + kEnvironmentInUse;
  if (until <= now_) return forget_environment(key);
  if (slot.state == EnvironmentState::Wanted && slot.retry <= now_) environments_wanted_ = true;
  const bool waits = slot.state == EnvironmentState::Wanted && slot.retry > now_;
  slot.due.arm(waits ? std::min(until, slot.retry) : until);
}

// The least valuable; false: there is none. `of`: of this owner; null: anybody's.
bool Scheduler::evict_environment(const MemoryShare* of) {
  EnvironmentSlot* least = nullptr;
  double lowest = 0;
  for (const auto& [key, slot] : environments_) {
    if (slot->charged == Bytes{} || (of != nullptr && slot->share.get() != of)) continue;
    const double value = log_value(slot->rate, slot->build_time, slot->bytes);
    if (least != nullptr && value >= lowest) continue;
    least = slot.get();
    lowest = value;
  }
  if (least == nullptr) return false;
  end_environment(*least, now_ + kEnvironmentPause);
  return true;
}

void Scheduler::leave_environments(FunctionId function, std::optional<std::uint32_t> version) {
  std::vector<std::string> left;
  for (const auto& [key, slot] : environments_) {
    std::erase_if(slot->users, [&](const auto& user) {
      return user->key.function == function && (!version || user->key.version == *version);
    });
    if (slot->users.empty()) left.push_back(key);
  }
  for (const std::string& key : left) forget_environment(key);
}

void Scheduler::end_environments() {
  while (!environments_.empty()) forget_environment(std::string(environments_.begin()->first));
}

EnvironmentsStatus Scheduler::environments_status() const {
  EnvironmentsStatus status;
  for (const auto& [key, slot] : environments_) {
    status.ready += slot->state == EnvironmentState::Ready ? 1 : 0;
    status.preparing += slot->state == EnvironmentState::Preparing ? 1 : 0;
    status.memory = status.memory + slot->charged;
  }
  return status;
}

}  // namespace mayfly
