#include "serving/quota_gate.h"

#include <fmt/format.h>

#include <utility>

#include "base/log.h"
#include "core/caller_reason.h"
#include "core/reason.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// How old the month's sum may be; nothing is read while nobody predicts.
constexpr Duration kUsageAge = 5s;

}  // namespace

QuotaGate::Used QuotaGate::use_of(const UsageTable& usage) {
  constexpr double kGbMicrosecond = 1e6 * (std::uint64_t{1} << 30);
  Used used;
  for (const auto& [key, sum] : usage.rows()) {
    const Uint128 asked_for = sum.memory_time - sum.shadow_memory_time;
    used[key.project] += static_cast<double>(asked_for) / kGbMicrosecond;
  }
  return used;
}

QuotaGate::QuotaGate(Parts parts) : parts_(std::move(parts)), inside_(parts_.loop) {}

void QuotaGate::publish(const QuotaTable& table) {
  const TimePoint now = parts_.loop.now();
  std::map<std::string, std::shared_ptr<Project>, std::less<>> projects;
  for (const auto& [name, quotas] : table) {
    const auto known = projects_.find(name);
    // Who is inside is counted on, whatever becomes of the quotas meanwhile.
    const bool has_callers = known != projects_.end() && known->second.use_count() > 1;
    if (quotas == Quotas{} && !has_callers) continue;
    const double rate = quotas.requests_per_second;
    auto project = known == projects_.end()
                       ? std::make_shared<Project>(
                             Project{.quotas = {}, .bucket = TokenBucket(rate, rate, now)})
                       : known->second;
    if (project->quotas.requests_per_second != quotas.requests_per_second)
      project->bucket = TokenBucket(rate, rate, now);
    project->quotas = quotas;
    projects.emplace(name, std::move(project));
  }
  projects_ = std::move(projects);
  for (const auto& [name, share] : memory_) share->limit = quotas_of(name).memory;
  next_look_ = {};
}

Quotas QuotaGate::quotas_of(std::string_view project) const {
  const auto found = projects_.find(project);
  return found == projects_.end() ? Quotas{} : found->second->quotas;
}

std::shared_ptr<MemoryShare> QuotaGate::memory_of(std::string_view project) {
  const auto known = memory_.find(project);
  if (known != memory_.end()) return known->second;
  auto share = std::make_shared<MemoryShare>(MemoryShare{.limit = quotas_of(project).memory});
  memory_.emplace(project, share);
  return share;
}

Bytes QuotaGate::stored_limit(std::string_view project) const { return quotas_of(project).stored; }

Bytes QuotaGate::job_limit(std::string_view project) const { return quotas_of(project).jobs; }

Bytes QuotaGate::data_limit(std::string_view project) const { return quotas_of(project).data; }

Result<QuotaGate::Place> QuotaGate::enter(std::string_view name) {
  const auto found = projects_.find(name);
  if (found == projects_.end()) return Place();
  Project& project = *found->second;
  const Quotas& quotas = project.quotas;
  if (quotas.gb_seconds_per_month > 0) {
    look_at_usage();
    if (project.gb_seconds >= static_cast<double>(quotas.gb_seconds_per_month)) {
      return refuse(reason::kQuotaExceeded,
                    fmt::format("gb_seconds_per_month: the project has used its {} of this month",
                                quotas.gb_seconds_per_month));
    }
  }
  if (quotas.concurrency > 0 && project.inside >= quotas.concurrency) {
    return refuse(reason::kQuotaExceeded,
                  fmt::format("concurrency: {} predictions of the project are under way",
                              quotas.concurrency));
  }
  if (quotas.requests_per_second > 0 && !project.bucket.take(parts_.loop.now())) {
    return refuse(
        reason::kQuotaExceeded,
        fmt::format("requests_per_second: the project may ask for {} predictions a second",
                    quotas.requests_per_second));
  }
  return Place(found->second);
}

void QuotaGate::look_at_usage() {
  if (looking_ || inside_.closed() || parts_.loop.now() < next_look_) return;
  looking_ = true;
  parts_.loop.spawn(refresh());
}

Task<void> QuotaGate::refresh() {
  const auto hold = inside_.hold();
  const auto usage = co_await parts_.pool.run([this] { return parts_.usage(); });
  next_look_ = parts_.loop.now() + kUsageAge;
  looking_ = false;
  if (!usage) {
    LOG(error, "usage cannot be read: gb_seconds_per_month is held by an older sum",
        {"error", usage.error().message});
    co_return;
  }
  for (const auto& [name, project] : projects_) {
    const auto used = usage->find(name);
    project->gb_seconds = used == usage->end() ? 0 : used->second;
  }
}

}  // namespace mayfly
