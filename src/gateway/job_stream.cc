// A job as it goes on: server-sent events, each the job as `GET` shows it, with its parts.
#include <algorithm>
#include <chrono>

#include "async/sleep.h"
#include "core/project.h"
#include "gateway/guard.h"
#include "gateway/job_api.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kLookEvery = 300ms;
constexpr Duration kJobHeartbeat = 15s;
constexpr std::size_t kMostPartsShown = 100;

std::string event_of(const Json& job) {
  return "event: job\ndata: " + job.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n\n";
}

}  // namespace

Task<Result<Json>> JobApi::as_it_is(const Route& route) {
  CO_TRY(const JobRecord job, co_await find(route));
  Json about = describe_job(job);
  if (job.spec.kind != JobKind::Train) co_return about;
  JobStore::ListAsk ask{.project = std::string(project_of(job.spec.function)),
                        .parent = job.spec.id,
                        .limit = kMostPartsShown};
  CO_TRY(const std::vector<JobRecord> parts, co_await parts_.engine.list(std::move(ask)));
  about["parts"] = Json::array();
  for (const JobRecord& part : parts)
    if (part.state == JobState::Running) about["parts"].push_back(describe_job(part));
  co_return about;
}

Task<Status> JobApi::follow(Exchange& exchange, const Route& route, std::string_view cors_origin,
                            std::function<Status()> may_go_on) {
  CO_TRY(Json job, co_await as_it_is(route));
  Headers headers = {{"Content-Type", "text/event-stream"},
                     {"Cache-Control", "no-store"},
                     {"X-Content-Type-Options", "nosniff"},
                     {"X-Accel-Buffering", "no"}};
  allow_origin(headers, cors_origin);
  CO_TRY_STATUS(co_await exchange.start(200, std::move(headers)));
  Loop& loop = parts_.loop;
  std::string said;
  TimePoint spoke = loop.now();
  while (true) {
    std::string event = event_of(job);
    const bool silent = event == said;
    if (!silent && !co_await exchange.write(event)) break;
    if (silent && loop.now() - spoke >= kJobHeartbeat && !co_await exchange.write(": \n\n")) break;
    if (!silent || loop.now() - spoke >= kJobHeartbeat) spoke = loop.now();
    said = std::move(event);
    if (job.contains("ended")) break;
    if (!co_await sleep_for(loop, kLookEvery, exchange.disconnected())) break;
    if (!may_go_on()) break;
    auto now = co_await as_it_is(route);
    if (!now) break;
    job = *std::move(now);
  }
  (void)co_await exchange.finish();
  co_return Status{};
}

}  // namespace mayfly
