// How requests that wait become batches, and what becomes of a batch. A batch gathers until the end
// of the turn in which its instance was free, so that one with a single client costs nothing. Its
// members keep their own memory: whatever goes wrong with the whole, each runs again alone, and
// only the guilty one fails.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "dispatch/batch.h"
#include "dispatch/scheduler.h"

namespace mayfly {
namespace {

// Of those that wait this many are looked at for members alike.
constexpr std::size_t kLooked = 512;

// A mean says little of one run: by this much more is reckoned with.
Duration with_reserve(Duration expected) { return expected + expected / 4; }

using Gathering = Worker::Gathering;

}  // namespace

bool Scheduler::batches(const VersionPool& pool) const {
  return pool.tuner.cap() > 1 && !pool.mixes_rows;
}

bool Scheduler::gathers(const Request& request, const VersionPool& pool) const {
  return request.rows > 0 && batches(pool);
}

// When what waits may be given to an instance.
TimePoint Scheduler::released(VersionPool& pool) const {
  const Batching& batching = pool.tuner.batching();
  const Duration expected = std::max(pool.tuner.expected(pool.queued_rows), pool.mean_run);
  // Nobody waits where there is no instance to keep idle, where no run is known, or where the next
  // request would be refused for want of a place.
  const bool waits = pool.queued > 0 && batching.max_delay > Duration::zero() && batches(pool) &&
                     pool.queue.front().rows > 0 && pool.live() > 0 &&
                     expected > Duration::zero() &&
                     pool.function.queued < pool.function.settings->queue_limit;
  if (!waits) return now_;
  return batch_release({.waiting = pool.queued_rows,
                        .cap = pool.tuner.cap(),
                        .preferred = batching.preferred,
                        .oldest = pool.queue.oldest_accepted(),
                        .max_delay = batching.max_delay,
                        .deadline = pool.earliest_deadline,
                        .expected = expected});
}

// A batch that is not full yet may have to wait for others.
bool Scheduler::holds_back(const Request& request, const VersionPool& pool) const {
  const Batching& batching = pool.tuner.batching();
  return batching.max_delay > Duration::zero() && gathers(request, pool) &&
         request.rows < pool.tuner.cap();
}

std::uint64_t Scheduler::batch_limit(VersionPool& pool, std::uint64_t rows) const {
  const Batching& batching = pool.tuner.batching();
  const std::uint32_t each = tokens_of(pool.runtime->threads, options_.cores);
  const std::uint32_t most = pool.function.settings->max_instances;
  std::uint32_t instances = std::max(options_.cores / each, 1U);
  if (most != 0) instances = std::min(instances, most);
  return batch_rows({.waiting = rows,
                     .cap = pool.tuner.cap(),
                     .preferred = batching.preferred,
                     .instances = batching.mode == BatchMode::Auto ? instances : 1,
                     .expected = pool.tuner.expected(rows)});
}

// Until when a batch with the request must be done. Who would be late alone too bounds nobody.
TimePoint Scheduler::batch_deadline(const Request& request, const VersionPool& pool) const {
  const TimePoint deadline = request.call.deadline;
  return in_time(pool, request.rows, deadline) ? deadline : TimePoint::max();
}

bool Scheduler::in_time(const VersionPool& pool, std::uint64_t rows, TimePoint deadline) const {
  return now_ + with_reserve(pool.tuner.expected(rows)) <= deadline;
}

// The open batch that the request joins, if any: not where another instance could begin at once and
// there is work enough for both.
Worker* Scheduler::open_batch(const Request& request, const VersionPool& pool) const {
  if (request.rows == 0) return nullptr;
  Worker* best = nullptr;
  for (Worker* worker : gathering_) {
    const bool fits =
        &worker->pool == &pool && worker->gathering == Gathering::Open &&
        worker->batch_rows + request.rows <= pool.tuner.cap() &&
        in_time(pool, worker->batch_rows + request.rows,
                std::min(worker->batch_deadline, batch_deadline(request, pool))) &&
        alike(worker->batch.front().request->call.request.layout(), request.call.request.layout());
    if (fits && (best == nullptr || worker->batch_rows < best->batch_rows)) best = worker;
  }
  if (best == nullptr || pool.idle.empty()) return best;
  const std::uint32_t free = options_.cores - std::min(tokens_used_, options_.cores);
  const bool another = free >= tokens_of(pool.runtime->threads, options_.cores) &&
                       pool.tuner.batching().mode == BatchMode::Auto &&
                       pool.tuner.expected(best->batch_rows) > kWorthWaking;
  return another ? nullptr : best;
}

void Scheduler::gather(Request& request, Worker& worker) {
  if (worker.gathering == Gathering::No) {
    worker.gathering = Gathering::Open;
    gathering_.push_back(&worker);
    seal_.request();
  }
  worker.batch.push_back({.request = &request, .rows = request.rows});
  worker.batch_rows += request.rows;
  worker.batch_deadline = std::min(worker.batch_deadline, batch_deadline(request, worker.pool));
}

// From the queue, the first that fit and make nobody late.
void Scheduler::fill(Worker& worker) {
  if (worker.gathering != Gathering::Open) return;
  VersionPool& pool = worker.pool;
  const RequestLayout& first = worker.batch.front().request->call.request.layout();
  const std::uint64_t limit = batch_limit(pool, worker.batch_rows + pool.queued_rows);
  std::uint64_t rows = worker.batch_rows;
  TimePoint deadline = worker.batch_deadline;
  std::size_t looked = 0;
  std::vector<Request*> members;
  pool.queue.each_while([&](Request& waiting) {
    const TimePoint with_it = std::min(deadline, batch_deadline(waiting, pool));
    if (waiting.rows > 0 && rows + waiting.rows <= limit &&
        in_time(pool, rows + waiting.rows, with_it) &&
        alike(first, waiting.call.request.layout())) {
      rows += waiting.rows;
      deadline = with_it;
      members.push_back(&waiting);
    }
    return rows < limit && ++looked < kLooked;
  });
  for (Request* member : members) join(take_from_queue(*member), worker);
}

void Scheduler::seal_batches() {
  tick();
  const std::vector<Worker*> workers = std::exchange(gathering_, {});
  for (Worker* worker : workers) seal(*worker);
  run();
}

void Scheduler::seal(Worker& worker) {
  for (Request* request : worker.requests) request->runs = now_;
  if (worker.batch.size() == 1) {
    Request& only = *worker.batch.front().request;
    forget_batch(worker);
    worker.instance->run(std::move(only.call.request));
    return;
  }
  std::vector<RequestMemory*> members;
  std::uint64_t output_bytes = 0;
  for (const Worker::Member& member : worker.batch) {
    members.push_back(&member.request->call.request);
    output_bytes += members.back()->output_bytes();
  }
  auto whole = join_requests(members, output_bytes);
  if (!whole) {  // no memory for all of them together
    LOG(warn, "batch not made", {"version", worker.pool.runtime->label},
        {"error", whole.error().message});
    disband_batch(worker, Alone::Yes);
    stand_down(worker);
    return;
  }
  worker.gathering = Gathering::Sealed;
  worker.instance->run(*std::move(whole));
}

// It was given nothing after all.
void Scheduler::stand_down(Worker& worker) {
  std::erase(gathering_, &worker);
  forget_batch(worker);
  if (worker.afterwards == Afterwards::End) return end(worker, Why::Asked);
  release_tokens(worker);
  make_idle(worker);
}

void Scheduler::forget_batch(Worker& worker) {
  worker.batch.clear();
  worker.batch_rows = 0;
  worker.batch_deadline = TimePoint::max();
  worker.gathering = Gathering::No;
}

// The members wait again, before everybody else. Those of a batch that was run, or could not be,
// run one by one from now on.
void Scheduler::disband_batch(Worker& worker, Alone alone) {
  if (alone == Alone::Yes) worker.pool.tuner.failed(worker.batch_rows);
  const std::vector<Worker::Member> members = std::exchange(worker.batch, {});
  forget_batch(worker);
  worker.requests.clear();
  for (auto member = members.rbegin(); member != members.rend(); ++member) {
    if (member->request == nullptr) continue;
    if (alone == Alone::Yes) member->request->rows = 0;
    put_back(*member->request);
  }
  touch(worker.pool);
  contend(worker.pool);
}

// One member's deadline passed or its caller went away: the others do not notice.
void Scheduler::leave_batch(Request& request, Worker& worker, Why why) {
  const Worker::Gathering gathering = worker.gathering;
  const auto member = std::ranges::find(worker.batch, &request, &Worker::Member::request);
  CHECK(member != worker.batch.end());
  Duration ran{};
  if (gathering == Gathering::Sealed) {
    ran = share_of(now_ - request.runs.value_or(now_), member->rows, worker.batch_rows);
    member->request = nullptr;
  } else {
    worker.batch_rows -= member->rows;
    worker.batch.erase(member);
  }
  release(request, worker, ran, Duration::zero());
  if (!worker.requests.empty()) return;
  if (gathering == Gathering::Open) {
    stand_down(worker);
  } else {
    worker.pool.tuner.failed(worker.batch_rows);  // so long that nobody waits for it any more
    forget_batch(worker);
    end(worker, why);
  }
}

// A part of what a batch took, by rows.
Duration Scheduler::share_of(Duration whole, std::uint64_t rows, std::uint64_t all) {
  return Duration(whole.count() * static_cast<std::int64_t>(rows) / static_cast<std::int64_t>(all));
}

void Scheduler::settle_batch(Worker& worker, Result<Reply> reply) {
  VersionPool& pool = worker.pool;
  sample(worker);
  std::vector<std::uint64_t> rows;
  for (const Worker::Member& member : worker.batch) rows.push_back(member.rows);
  auto parts = reply ? divide(*reply, rows) : std::nullopt;
  if (!parts) {
    if (reply) {
      LOG(warn, "batching is off: an output has not one row for each row of the inputs",
          {"version", pool.runtime->label});
      pool.mixes_rows = true;
    }
    worker.cpu_seen = worker.instance->cpu();  // nobody's
    return disband_batch(worker, Alone::Yes);
  }
  finish_batch(worker, *std::move(parts));
}

void Scheduler::finish_batch(Worker& worker, std::vector<Reply> parts) {
  VersionPool& pool = worker.pool;
  const Duration ran = now_ - worker.requests.front()->runs.value_or(now_);
  const Duration cpu = unbilled(worker);
  const std::uint64_t all = worker.batch_rows;
  const auto load = pool.queued > 0 ? BatchTuner::Load::Heavy : BatchTuner::Load::Light;
  pool.tuner.ran(all, ran, load);
  const std::vector<Worker::Member> members = std::exchange(worker.batch, {});
  forget_batch(worker);
  worker.requests.clear();
  bool leads = true;
  for (std::size_t i = 0; i < members.size(); ++i) {
    Request* request = members[i].request;
    if (request == nullptr) {  // its share is nobody's
      worker.cpu_seen += share_of(cpu, members[i].rows, all);
      continue;
    }
    request->batch = static_cast<std::uint32_t>(members.size());
    request->leads = std::exchange(leads, false);
    request->batch_rows = all;
    request->batch_run = ran;
    bill(*request, worker, share_of(ran, members[i].rows, all),
         share_of(cpu, members[i].rows, all));
    finish(*request, std::move(parts[i]));
  }
  follow(pool.mean_run, ran / static_cast<std::int64_t>(members.size()));
}

}  // namespace mayfly
