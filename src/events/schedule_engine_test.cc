#include "events/schedule_engine.h"

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/testing/fake_clock.h"
#include "core/caller_reason.h"
#include "core/reason.h"
#include "core/units.h"
#include "meter/ledger.h"
#include "store/local_blob_store.h"
#include "store/sqlite_work_queue.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

// Virtual time; events are accepted and left to wait. The scheduler can be made again, as a node
// that starts again does.
class ScheduleRig {
 public:
  ScheduleRig() {
    std::filesystem::create_directories(folder_.path() / "blobs");
    std::filesystem::create_directories(folder_.path() / "tmp");
    blobs = LocalBlobStore::open(folder_.path() / "blobs", folder_.path() / "tmp").value();
    queue = SqliteWorkQueue::open(folder_.path() / "events.db").value();
    schedules = ScheduleStore::open(folder_.path() / "schedules.db").value();
    ledger = Ledger::open(folder_.path() / "ledger", clock, {}).value();
    writer = std::make_unique<LedgerWriter>(loop, *ledger);
    store = std::make_unique<EventStore>(
        *queue, *blobs, clock, [this](const Digest& blob) { return schedules->refers_to(blob); });
    start();
  }
  ~ScheduleRig() { stop(); }

  void start() {
    engine = std::make_unique<EventEngine>(EventEngine::Parts{.loop = loop,
                                                              .store = *store,
                                                              .rng = rng,
                                                              .ids = ids,
                                                              .ledger = *writer,
                                                              .run = {},
                                                              .has_room = {}},
                                           EventEngine::Options{});
    scheduler = std::make_unique<ScheduleEngine>(ScheduleEngine::Parts{
        .loop = loop,
        .schedules = *schedules,
        .events = *store,
        .engine = *engine,
        .ids = ids,
        .submission = [this](const Schedule& schedule) { return submission(schedule); },
        .jobs = {.submit =
                     [this](Schedule, std::string id, std::string request) {
                       return submit_job(std::move(id), std::move(request));
                     },
                 .find = [this](const std::string& id) { return find_job(id); },
                 .drop = [this](const Digest& input) { dropped.push_back(input); }}});
    REQUIRE(scheduler->recover().has_value());
    scheduler->start();
    settle();
  }
  void stop() {
    if (scheduler) loop.run(scheduler->close());
    if (engine) loop.run(engine->close());
    scheduler.reset();
    engine.reset();
  }

  Task<Status> submit_job(std::string id, std::string request) {
    ++tries;
    if (job_error) co_return std::unexpected(*job_error);
    CHECK(request == "payload");
    jobs.try_emplace(id, ScheduledJobs::Found{.submitted = clock.wall_now(),
                                              .over = false,
                                              .state = "running",
                                              .reason = "",
                                              .message = ""});
    co_return Status{};
  }
  Result<std::optional<ScheduledJobs::Found>> find_job(const std::string& id) {
    const auto found = jobs.find(id);
    if (found == jobs.end()) return std::nullopt;
    return found->second;
  }
  void end_jobs() {
    for (auto& [id, job] : jobs) job.over = true;
  }

  EventEngine::Submission submission(const Schedule& schedule) const {
    return {.lane = lane_of(schedule),
            .key = "",
            .detail = "{}",
            .payload = "",
            .max_attempts = 1,
            .max_age = 1000h,
            .result_ttl = 1h,
            .max_events = max_events};
  }

  static Schedule daily() {
    Schedule schedule;
    schedule.project = "team";
    schedule.name = "nightly";
    schedule.target.name = "f@champion";
    schedule.cron = "0 2 * * *";
    schedule.timezone = "Europe/Berlin";
    schedule.content_type = "application/json";
    schedule.caller = "ci";
    return schedule;
  }
  static Schedule nightly_batch() {
    Schedule schedule = daily();
    schedule.target.kind = ScheduleTarget::Kind::Batch;
    schedule.input = sha256("rows");
    return schedule;
  }
  Result<Schedule> create(Schedule schedule) {
    auto made = loop.run(scheduler->create(std::move(schedule), "payload"));
    settle();
    return made;
  }
  Schedule found() { return loop.run(scheduler->find("team", "nightly")).value(); }
  std::vector<WorkItem> events() {
    return queue->list({.lane = "team/f", .state = {}, .before = ""}).value();
  }
  // Lets what is due run, until nothing is.
  void settle() {
    do {
      loop.poll();
      (void)loop.run(scheduler->list("team"));
    } while (!schedules->due(clock.wall_now(), 1)->empty());
    loop.poll();
  }
  void advance(Duration by) {
    clock.advance(by);
    settle();
  }
  // What could not be run is tried again each second, by a timer that may be armed only after the
  // clock has moved: it moves until it is so.
  void retry_until(const std::function<bool()>& so, Duration step = 2s) {
    do {
      clock.advance(step);
      loop.poll();
      (void)loop.run(scheduler->list("team"));
      loop.poll();
    } while (!so());
  }
  void until_tried() {
    retry_until([this, before = tries] { return tries > before; });
  }
  void retry_until_run() {
    retry_until([this] { return schedules->due(clock.wall_now(), 1)->empty(); });
  }
  void advance_to(const std::string& time) { advance(parse_time(time).value() - clock.wall_now()); }
  // As if the node died: nothing of what it knew is left.
  void down_until(const std::string& time) {
    stop();
    clock.advance(parse_time(time).value() - clock.wall_now());
    start();
  }
  void end(const WorkItem& item) {
    REQUIRE(queue->cancel(item.spec.id, clock.wall_now()).has_value());
  }

  TempDir folder_ = TempDir::create().value();
  FakeClock clock;
  Loop loop{clock};
  SystemRng rng;
  InvocationIds ids{clock, rng};
  std::unique_ptr<LocalBlobStore> blobs;
  std::unique_ptr<SqliteWorkQueue> queue;
  std::unique_ptr<ScheduleStore> schedules;
  std::unique_ptr<Ledger> ledger;
  std::unique_ptr<LedgerWriter> writer;
  std::unique_ptr<EventStore> store;
  std::uint64_t max_events = 100;
  std::map<std::string, ScheduledJobs::Found> jobs;
  std::optional<Error> job_error;
  int tries = 0;  // to submit a job
  std::vector<Digest> dropped;
  std::unique_ptr<EventEngine> engine;
  std::unique_ptr<ScheduleEngine> scheduler;
};

std::string minute_of(const std::optional<WallTime>& time) {
  return time ? format_time(*time).substr(0, 16) : "never";
}

}  // namespace

TEST_CASE("a schedule makes an event each time it is due") {
  ScheduleRig rig;
  rig.advance_to("2026-03-27T12:00:00Z");
  REQUIRE(rig.create(ScheduleRig::daily()).has_value());
  CHECK(minute_of(rig.found().next) == "2026-03-28T01:00");
  rig.advance_to("2026-03-28T00:59:59Z");
  CHECK(rig.events().empty());
  rig.advance(1s);
  REQUIRE(rig.events().size() == 1);
  const WorkItem first = rig.events()[0];
  CHECK(first.spec.payload == sha256("payload"));
  CHECK(rig.found().last->event == first.spec.id);
  CHECK(minute_of(rig.found().last->planned) == "2026-03-28T01:00");
  // 02:00 does not exist on the 29th.
  CHECK(minute_of(rig.found().next) == "2026-03-29T01:00");
  rig.end(first);
  rig.advance_to("2026-03-29T01:00:30Z");
  CHECK(rig.events().size() == 2);
  CHECK(minute_of(rig.found().next) == "2026-03-30T00:00");
  rig.loop.run(rig.scheduler->close());
  CHECK(rig.scheduler->runs()[static_cast<std::size_t>(RunOutcome::Accepted)] == 2);
}

TEST_CASE("what was missed is one run, or none") {
  for (const MissedRuns missed : {MissedRuns::One, MissedRuns::Skip}) {
    CAPTURE(to_string(missed));
    ScheduleRig rig;
    rig.advance_to("2026-06-01T12:00:00Z");
    Schedule schedule = ScheduleRig::daily();
    schedule.missed = missed;
    REQUIRE(rig.create(schedule).has_value());
    rig.down_until("2026-06-09T12:00:00Z");
    CHECK(rig.events().size() == (missed == MissedRuns::One ? 1 : 0));
    CHECK(rig.found().last->outcome ==
          (missed == MissedRuns::One ? RunOutcome::Accepted : RunOutcome::Missed));
    CHECK(minute_of(rig.found().last->planned) == "2026-06-02T00:00");
    CHECK(minute_of(rig.found().next) == "2026-06-10T00:00");
    // A minute late is not missed.
    for (const WorkItem& item : rig.events()) rig.end(item);
    rig.down_until("2026-06-10T00:01:00Z");
    CHECK(rig.found().last->outcome == RunOutcome::Accepted);
  }
}

TEST_CASE("a node that dies between a run's event and its note makes no second event") {
  ScheduleRig rig;
  rig.advance_to("2026-06-01T12:00:00Z");
  REQUIRE(rig.create(ScheduleRig::daily()).has_value());
  const Schedule before = rig.found();
  rig.stop();
  rig.clock.advance(parse_time("2026-06-02T00:00:00Z").value() - rig.clock.wall_now());
  rig.start();
  REQUIRE(rig.events().size() == 1);
  rig.end(rig.events()[0]);  // so that it does not look as if it still ran
  SUBCASE("and starts again at once") { rig.stop(); }
  SUBCASE("and starts again when the event's key has lost its time") {
    rig.stop();
    rig.clock.advance(5h);
  }
  // The note is undone.
  const Schedule after = rig.schedules->find("team", "nightly").value();
  REQUIRE(rig.schedules->set_next(after.id, before.next).has_value());
  rig.start();
  CHECK(rig.events().size() == 1);
  CHECK(minute_of(rig.found().next) == "2026-06-03T00:00");
  CHECK(rig.found().last->event == rig.events()[0].spec.id);
}

TEST_CASE("a run is passed over while the one before has not ended") {
  ScheduleRig rig;
  rig.advance_to("2026-06-01T12:00:00Z");
  Schedule often = ScheduleRig::daily();
  often.cron = "* * * * *";
  REQUIRE(rig.create(often).has_value());
  rig.advance(1min);
  REQUIRE(rig.events().size() == 1);
  rig.advance(1min);
  CHECK(rig.events().size() == 1);
  CHECK(rig.found().last->outcome == RunOutcome::Overlapping);
  rig.end(rig.events()[0]);
  rig.advance(1min);
  CHECK(rig.events().size() == 2);
  CHECK(rig.found().last->outcome == RunOutcome::Accepted);
}

TEST_CASE("a run that is refused says why, and the next one comes") {
  ScheduleRig rig;
  rig.max_events = 0;
  rig.advance_to("2026-06-01T12:00:00Z");
  REQUIRE(rig.create(ScheduleRig::daily()).has_value());
  rig.advance_to("2026-06-02T00:00:00Z");
  CHECK(rig.found().last->outcome == RunOutcome::Refused);
  CHECK(rig.found().last->reason == reason::kQueueFull);
  CHECK(minute_of(rig.found().next) == "2026-06-03T00:00");
  rig.max_events = 1;
  rig.advance_to("2026-06-03T00:00:00Z");
  CHECK(rig.found().last->outcome == RunOutcome::Accepted);
}

TEST_CASE("what is paused does not run, and has missed nothing when it goes on") {
  ScheduleRig rig;
  rig.advance_to("2026-06-01T12:00:00Z");
  REQUIRE(rig.create(ScheduleRig::daily()).has_value());
  CHECK(rig.loop.run(rig.scheduler->pause(rig.found()))->paused);
  rig.advance_to("2026-06-05T12:00:00Z");
  rig.stop();
  rig.start();
  CHECK(rig.events().empty());
  CHECK(rig.found().paused);
  REQUIRE(rig.loop.run(rig.scheduler->resume(rig.found())).has_value());
  rig.settle();
  CHECK(rig.events().empty());
  CHECK(minute_of(rig.found().next) == "2026-06-06T00:00");
  const auto run = rig.loop.run(rig.scheduler->run_now(rig.found()));
  CHECK(rig.found().last->event == *run);
  CHECK(minute_of(rig.found().next) == "2026-06-06T00:00");
}

TEST_CASE("schedules have names of their own in their project, and wrong ones are refused") {
  ScheduleRig rig;
  REQUIRE(rig.create(ScheduleRig::daily()).has_value());
  CHECK(rig.create(ScheduleRig::daily()).error().reason == reason::kConflict);
  Schedule other = ScheduleRig::daily();
  other.project = "other";
  CHECK(rig.create(other).has_value());
  CHECK(rig.loop.run(rig.scheduler->list("team"))->size() == 1);
  for (const auto& [cron, zone] : std::vector<std::pair<std::string, std::string>>{
           {"0 25 * * *", "UTC"}, {"0 2 * * *", "Mars/Olympus"}}) {
    Schedule wrong = ScheduleRig::daily();
    wrong.name = "wrong";
    wrong.cron = cron;
    wrong.timezone = zone;
    CHECK(rig.create(wrong).error().reason == reason::kInvalidSetting);
  }
  CHECK(rig.loop.run(rig.scheduler->find("team", "wrong")).error().reason == reason::kNotFound);
}

TEST_CASE("a project has so many schedules and no more") {
  ScheduleRig rig;
  Schedule schedule = ScheduleRig::daily();
  for (std::size_t i = 0; i < ScheduleStore::kMostOfProject; ++i) {
    schedule.id = schedule.name = std::to_string(i);
    REQUIRE(rig.schedules->add(schedule).has_value());
  }
  CHECK(rig.create(ScheduleRig::daily()).error().reason == reason::kQuotaExceeded);
}

TEST_CASE("a schedule's payload stays as long as the schedule") {
  ScheduleRig rig;
  REQUIRE(rig.create(ScheduleRig::daily()).has_value());
  CHECK_FALSE(rig.create(ScheduleRig::daily()).has_value());
  REQUIRE(rig.store->remove_orphans().has_value());
  CHECK(rig.store->read(sha256("payload")).value() == "payload");
  REQUIRE(rig.loop.run(rig.scheduler->remove(rig.found())).has_value());
  CHECK_FALSE(rig.store->read(sha256("payload")).has_value());
}

TEST_CASE("a schedule of a job submits one each time it is due, under an id of its own") {
  ScheduleRig rig;
  rig.advance_to("2026-06-01T12:00:00Z");
  REQUIRE(rig.create(ScheduleRig::nightly_batch()).has_value());
  CHECK(rig.schedules->has_input(sha256("rows")).value());
  rig.advance_to("2026-06-02T00:00:00Z");
  REQUIRE(rig.jobs.size() == 1);
  CHECK(rig.events().empty());
  // Ordered by the planned time, as the ids of all jobs are by theirs.
  const std::string id = rig.jobs.begin()->first;
  CHECK(id.substr(0, 15) == to_string(rig.ids.next()).substr(0, 15));
  CHECK(rig.found().last->event == id);
  rig.advance_to("2026-06-03T00:00:00Z");
  CHECK(rig.jobs.size() == 1);
  CHECK(rig.found().last->outcome == RunOutcome::Overlapping);
  rig.end_jobs();
  rig.advance_to("2026-06-04T00:00:00Z");
  CHECK(rig.jobs.size() == 2);
  const auto runs = rig.loop.run(rig.scheduler->last_runs(rig.found(), 10)).value();
  REQUIRE(runs.size() == 3);
  CHECK(runs[0].run.outcome == RunOutcome::Accepted);
  CHECK(runs[1].run.outcome == RunOutcome::Overlapping);
  CHECK(runs[1].state.empty());
  CHECK(runs[2].run.event == id);
  CHECK(runs[2].state == "running");
  REQUIRE(rig.loop.run(rig.scheduler->remove(rig.found())).has_value());
  CHECK(rig.dropped == std::vector{sha256("rows")});
  CHECK_FALSE(rig.schedules->has_input(sha256("rows")).value());
}

TEST_CASE("a node that dies between a run's job and its note submits no second one") {
  ScheduleRig rig;
  rig.advance_to("2026-06-01T12:00:00Z");
  Schedule schedule = ScheduleRig::nightly_batch();
  schedule.missed = MissedRuns::Skip;
  REQUIRE(rig.create(schedule).has_value());
  const Schedule before = rig.found();
  rig.advance_to("2026-06-02T00:00:00Z");
  REQUIRE(rig.jobs.size() == 1);
  rig.stop();
  REQUIRE(rig.schedules->set_next(before.id, before.next).has_value());
  rig.clock.advance(5h);
  rig.start();
  CHECK(rig.jobs.size() == 1);
  CHECK(rig.found().last->outcome == RunOutcome::Accepted);
  CHECK(minute_of(rig.found().next) == "2026-06-03T00:00");
}

TEST_CASE("runs that may overlap are made beside the one before") {
  ScheduleRig rig;
  rig.advance_to("2026-06-01T12:00:00Z");
  Schedule schedule = ScheduleRig::nightly_batch();
  schedule.overlap = OverlappingRuns::Allow;
  REQUIRE(rig.create(schedule).has_value());
  rig.advance_to("2026-06-02T00:00:00Z");
  rig.advance_to("2026-06-03T00:00:00Z");
  CHECK(rig.jobs.size() == 2);
}

TEST_CASE(
    "a job that its function refuses is a refused run, and one that the node cannot take waits") {
  ScheduleRig rig;
  rig.advance_to("2026-06-01T12:00:00Z");
  REQUIRE(rig.create(ScheduleRig::nightly_batch()).has_value());
  rig.job_error = refuse(reason::kUnknownFunction, "gone").error();
  rig.advance_to("2026-06-02T00:00:00Z");
  CHECK(rig.found().last->outcome == RunOutcome::Refused);
  CHECK(rig.found().last->reason == reason::kUnknownFunction);
  rig.job_error = refuse(reason::kStorageFull, "full").error();
  rig.clock.advance(parse_time("2026-06-03T00:00:00Z").value() - rig.clock.wall_now());
  rig.until_tried();
  CHECK(minute_of(rig.found().next) == "2026-06-03T00:00");
  rig.job_error.reset();
  rig.retry_until_run();
  CHECK(rig.jobs.size() == 1);
  CHECK(minute_of(rig.found().last->planned) == "2026-06-03T00:00");
}

TEST_CASE("the last runs of a schedule are kept, and no more") {
  ScheduleRig rig;
  REQUIRE(rig.create(ScheduleRig::daily()).has_value());
  const Schedule schedule = rig.found();
  for (std::size_t i = 0; i < ScheduleStore::kKeptRuns + 7; ++i) {
    const ScheduleRun run{.planned = WallTime(Duration(i)),
                          .at = {},
                          .outcome = RunOutcome::Missed,
                          .event = "",
                          .reason = "",
                          .message = ""};
    REQUIRE(rig.schedules->note(schedule.id, {.run = run, .was = {}, .next = {}}).has_value());
  }
  const auto runs = rig.schedules->runs(schedule.id, 1000).value();
  REQUIRE(runs.size() == ScheduleStore::kKeptRuns);
  CHECK(runs.front().planned == WallTime(Duration(ScheduleStore::kKeptRuns + 6)));
}

TEST_CASE("a run that waits for the disk is late, and not missed") {
  ScheduleRig rig;
  rig.advance_to("2026-06-01T12:00:00Z");
  Schedule schedule = ScheduleRig::nightly_batch();
  schedule.missed = MissedRuns::Skip;
  REQUIRE(rig.create(schedule).has_value());
  rig.job_error = refuse(reason::kStorageFull, "full").error();
  rig.clock.advance(parse_time("2026-06-02T00:00:00Z").value() - rig.clock.wall_now());
  rig.retry_until([&] { return rig.tries == 1; }, 0s);  // in time
  for (int i = 0; i < 5; ++i) {
    rig.clock.advance(1min);
    rig.until_tried();
  }
  rig.job_error.reset();
  rig.retry_until_run();
  CHECK(rig.found().last->outcome == RunOutcome::Accepted);
  CHECK(rig.jobs.size() == 1);
}
