#include "jobs/job_engine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "async/event.h"
#include "async/sleep.h"
#include "base/file.h"
#include "core/caller_reason.h"
#include "core/invocation.h"
#include "core/reason.h"
#include "core/store_reason.h"
#include "store/local_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

// A folder with jobs, and engines on it, one after the other: each is what a server that has begun
// again is. Slices do what the test says.
class JobRig {
 public:
  using Slice = std::function<SliceOutcome(const SliceAsk&)>;

  JobRig() {
    std::filesystem::create_directories(folder_.path() / "blobs");
    std::filesystem::create_directories(folder_.path() / "tmp");
    blobs = LocalBlobStore::open(folder_.path() / "blobs", folder_.path() / "tmp").value();
    restart();
  }
  ~JobRig() {
    if (engine) loop.run(engine->close());
  }

  void restart() {
    if (engine) loop.run(engine->close());
    engine.reset();
    store.reset();
    store = JobStore::open(folder_.path() / "jobs.db", *blobs, loop.clock()).value();
    engine = std::make_unique<JobEngine>(
        JobEngine::Parts{
            .loop = loop,
            .store = *store,
            .rng = rng,
            .run = [this](SliceAsk ask) { return run(std::move(ask)); },
            .bill = [this](const JobRecord&, const SliceBill& spent) { return bill(spent); },
            .has_memory = [this] { return memory; },
            .byte_limit = [this](std::string_view) { return byte_limit; }},
        JobEngine::Options{.cpus = 2,
                           .memory = mib(100),
                           .slice = slice_length,
                           .longest_slice = longest_slice,
                           .sweep_every = 5ms,
                           .look_every = 1ms,
                           .max_open = 5,
                           .max_failures = 3,
                           .retries = {.first = 1ns, .longest = 1ns}});
    REQUIRE(engine->recover().has_value());
    engine->start();
  }

  Task<SliceOutcome> run(SliceAsk ask) {
    order.push_back(ask.job.spec.id);
    ++running;
    most_running = std::max(most_running, running);
    if (before) co_await before(ask);
    if (hang) {
      Future<void> ended(loop);
      const auto promise = std::make_shared<Promise<void>>(ended.promise());
      const auto end = [promise] { promise->set(); };
      const CancelCallback killed(ask.kill, end);
      const CancelCallback stopped(ask.stop, [this, end] {
        ++stops;
        end();
      });
      const CancelCallback over(ask.due, [this, end] {
        ++turns;
        end();
      });
      (void)co_await ended;
    }
    --running;
    if (ask.kill.cancelled()) co_return failed(reason::kDraining, true);
    if (keeps) co_await keep(ask);
    co_return slice(ask);
  }
  Task<void> keep(const SliceAsk& ask, std::string state = "kept") {
    Pin pin = store->pin();
    kept = co_await ask.keep("kept", {file(FileRole::Checkpoint, "state", state, pin)});
  }
  Task<void> bill(SliceBill spent) {
    bills.push_back(spent);
    co_return;
  }

  JobFile file(FileRole role, const std::string& name, const std::string& bytes, Pin& pin) {
    const Path path = folder_.path() / "made";
    const Fd made = open_file(path, O_RDWR | O_CREAT | O_TRUNC, 0644).value();
    REQUIRE(write_all(made.get(), bytes).has_value());
    REQUIRE(::lseek(made.get(), 0, SEEK_SET) == 0);
    return store->put(role, name, made.get(), pin).value();
  }
  static SliceOutcome failed(std::string_view why, bool retry) {
    return {.result = refuse(why, "as the test wants it"), .retry = retry};
  }
  SliceOutcome done() const {
    JobStore::SliceResult result;
    result.finished = true;
    result.result = "42";
    return {.result = result};
  }
  // `count` checkpoints, then the end.
  SliceOutcome step(const SliceAsk& ask, std::uint32_t count) {
    if (ask.job.slices == count) return done();
    SliceOutcome outcome{.result = JobStore::SliceResult{}, .pin = store->pin()};
    const std::string number = std::to_string(ask.job.slices + 1);
    outcome.result->checkpoint = "after " + number;
    outcome.result->files.push_back(
        file(FileRole::Checkpoint, "state", "state " + number, outcome.pin));
    outcome.result->files.push_back(
        file(FileRole::Part, "part-" + number, "part " + number, outcome.pin));
    return outcome;
  }

  Result<JobRecord> try_submit(const std::string& function = "f", Bytes needed = mib(10),
                               const std::string& parent = "") {
    return loop.run(engine->submit({.id = to_string(ids.next()),
                                    .function = function,
                                    .version = 1,
                                    .kind = kind,
                                    .detail = "{}",
                                    .caller = "ci",
                                    .memory = needed,
                                    .cpus = cpus,
                                    .submitted = engine->now(),
                                    .expires = engine->now() + max_age,
                                    .keep = 1h,
                                    .parent = parent},
                                   {}));
  }
  std::string submit(const std::string& function = "f") {
    const auto job = try_submit(function);
    REQUIRE(job.has_value());
    return job->spec.id;
  }
  JobRecord find(const std::string& id) { return loop.run(engine->find(id)).value(); }
  void until(const std::function<bool()>& so) {
    while (!so()) {
      loop.poll();
      loop.run(pause());
    }
  }
  Task<void> pause() { (void)co_await sleep_for(loop, 1ms); }
  JobRecord until_over(const std::string& id) {
    until([&] { return is_over(find(id).state); });
    return find(id);
  }
  std::set<std::string> blob_bytes() {
    std::set<std::string> all;
    REQUIRE(blobs
                ->for_each([&](const BlobInfo& info) -> Status {
                  const auto blob = blobs->open(info.digest);
                  if (blob) all.insert(TRY(read_all_fd(blob->get(), 1000)));  // or it has just gone
                  return {};
                })
                .has_value());
    return all;
  }

  TempDir folder_ = TempDir::create().value();
  Loop loop;
  SystemClock clock;
  SystemRng rng;
  InvocationIds ids{clock, rng};
  std::unique_ptr<LocalBlobStore> blobs;
  std::unique_ptr<JobStore> store;
  Slice slice = [this](const SliceAsk&) { return done(); };
  bool memory = true;
  bool hang = false;
  std::function<Task<void>(const SliceAsk&)> before;  // it hangs
  bool keeps = false;
  Duration slice_length = 1h, longest_slice = 1h;
  JobKind kind = JobKind::Run;
  Bytes byte_limit{};
  Status kept;
  std::uint32_t cpus = 1;
  Duration max_age = 1h;
  int running = 0, most_running = 0, stops = 0;
  int turns = 0;  // slices whose time was over
  std::vector<std::string> order;
  std::vector<SliceBill> bills;
  std::unique_ptr<JobEngine> engine;
};

}  // namespace

TEST_CASE("a job runs slice by slice, each from the checkpoint before, to its end") {
  JobRig rig;
  std::vector<std::string> seen;
  rig.slice = [&](const SliceAsk& ask) {
    seen.push_back(ask.job.checkpoint);
    return rig.step(ask, 3);
  };
  const JobRecord job = rig.until_over(rig.submit());
  CHECK(job.state == JobState::Done);
  CHECK(job.result == "42");
  CHECK(seen == std::vector<std::string>{"", "after 1", "after 2", "after 3"});
  CHECK(rig.bills.size() == 4);
}

TEST_CASE(
    "the files of the last two checkpoints are kept, parts all, and of what is over only results") {
  JobRig rig;
  std::set<std::string> during;
  std::vector<std::string> restored;
  rig.slice = [&](const SliceAsk& ask) {
    if (ask.job.slices == 3) {
      during = rig.blob_bytes();
      for (const JobFile& file : ask.files) restored.push_back(file.name);
    }
    return rig.step(ask, 3);
  };
  rig.until_over(rig.submit());
  CHECK(during == std::set<std::string>{"state 2", "state 3", "part 1", "part 2", "part 3"});
  CHECK(restored.size() == 5);
  rig.until([&] { return rig.blob_bytes().empty(); });
}

TEST_CASE("a failed slice is tried again, and three in a row end the job") {
  JobRig rig;
  SUBCASE("with its reason") {
    rig.slice = [](const SliceAsk&) { return JobRig::failed(reason::kInstanceCrashed, true); };
    const JobRecord job = rig.until_over(rig.submit());
    CHECK(job.state == JobState::Failed);
    CHECK(job.reason == reason::kInstanceCrashed);
    CHECK(rig.order.size() == 3);
  }
  SUBCASE("what no retry helps ends it at once") {
    rig.slice = [](const SliceAsk&) { return JobRig::failed(reason::kFunctionError, false); };
    CHECK(rig.until_over(rig.submit()).reason == reason::kFunctionError);
    CHECK(rig.order.size() == 1);
  }
  SUBCASE("one in between that does not counts anew") {
    int slices = 0;
    rig.slice = [&](const SliceAsk& ask) {
      return ++slices % 3 != 0 ? JobRig::failed(reason::kInstanceCrashed, true) : rig.step(ask, 1);
    };
    CHECK(rig.until_over(rig.submit()).state == JobState::Done);
    CHECK(rig.order.size() == 6);
  }
  SUBCASE("a checkpoint does not save one that always dies after it") {
    rig.keeps = true;
    rig.slice = [](const SliceAsk&) { return JobRig::failed(reason::kInstanceCrashed, true); };
    CHECK(rig.until_over(rig.submit()).state == JobState::Failed);
    CHECK(rig.order.size() == 3);
  }
}

TEST_CASE("slices that fail do not count where the job has got further") {
  JobRig rig;
  int slices = 0;
  bool further = true;
  rig.before = [&](const SliceAsk& ask) -> Task<void> {
    JobProgress progress;
    progress.fraction = further ? slices / 10.0 + 0.05 : 0.5;
    ask.on_progress(progress);
    co_await rig.keep(ask, std::to_string(slices));
  };
  rig.slice = [&](const SliceAsk&) {
    return ++slices == 8 ? rig.done() : JobRig::failed(reason::kInstanceCrashed, true);
  };
  CHECK(rig.until_over(rig.submit()).state == JobState::Done);
  further = false;
  slices = 0;
  CHECK(rig.until_over(rig.submit()).state == JobState::Failed);
  CHECK(slices == 3);
}

TEST_CASE("after a kill a job goes on from its last checkpoint") {
  JobRig rig;
  std::vector<std::string> seen;
  rig.slice = [&](const SliceAsk& ask) {
    seen.push_back(ask.job.checkpoint);
    return rig.step(ask, 2);
  };
  rig.memory = false;
  const std::string id = rig.submit();
  rig.loop.run(rig.engine->close());
  // A slice that made a checkpoint, and another that was cut off.
  const JobStore::LeaseAsk ask{
      .now = rig.engine->now() + 1s, .after_project = "", .memory = mib(100), .cpus = 2};
  const JobLease first = lease_of(**rig.store->lease(ask));
  JobStore::SliceResult made;
  made.checkpoint = "after 1";
  REQUIRE(rig.store->advance(first, rig.engine->now(), made, {}).has_value());
  REQUIRE(rig.store->lease(ask)->has_value());
  REQUIRE(rig.store->find(id)->value().state == JobState::Running);
  rig.memory = true;
  rig.restart();
  CHECK(rig.until_over(id).state == JobState::Done);
  CHECK(seen == std::vector<std::string>{"after 1", "after 2"});
}

TEST_CASE("what a slice writes whose lease is lost changes nothing") {
  JobRig rig;
  rig.keeps = true;
  rig.hang = true;
  const std::string id = rig.submit();
  rig.until([&] { return rig.running == 1; });
  REQUIRE(rig.store->cancel(id, rig.engine->now()).has_value());
  rig.memory = false;  // ends the slice
  rig.until([&] { return rig.running == 0 && !rig.bills.empty(); });
  CHECK(rig.kept.error().reason == reason::kConflict);
  rig.until([&] { return rig.blob_bytes().empty(); });
  CHECK(rig.find(id).state == JobState::Cancelled);
  CHECK(rig.find(id).result.empty());
}

TEST_CASE("cancelled is ended at once, and stays so") {
  JobRig rig;
  rig.hang = true;
  const std::string id = rig.submit();
  rig.until([&] { return rig.running == 1; });
  CHECK(rig.loop.run(rig.engine->cancel(id))->state == JobState::Cancelled);
  rig.until([&] { return rig.running == 0; });
  CHECK(rig.find(id).state == JobState::Cancelled);
  CHECK(rig.loop.run(rig.engine->cancel(id))->state == JobState::Cancelled);
  CHECK(rig.loop.run(rig.engine->resume(id)).error().reason == reason::kConflict);
  CHECK(rig.loop.run(rig.engine->cancel("none")).error().reason == reason::kNotFound);
}

TEST_CASE("paused stops at its next checkpoint and waits, resumed goes on") {
  JobRig rig;
  rig.slice = [&](const SliceAsk& ask) { return rig.step(ask, 1); };
  rig.hang = true;
  const std::string id = rig.submit();
  rig.until([&] { return rig.running == 1; });
  CHECK(rig.loop.run(rig.engine->pause(id))->held);
  rig.until([&] { return rig.find(id).state == JobState::Paused; });
  CHECK(rig.find(id).slices == 1);
  rig.hang = false;
  rig.restart();  // a paused job stays paused
  CHECK(rig.find(id).state == JobState::Paused);
  CHECK(rig.loop.run(rig.engine->resume(id)).has_value());
  CHECK(rig.until_over(id).state == JobState::Done);
}

TEST_CASE("no more runs than the processors and the memory of jobs allow") {
  JobRig rig;
  rig.hang = true;
  SUBCASE("processors") {
    for (int i = 0; i < 3; ++i) rig.submit();
    rig.until([&] { return rig.running == 2; });
    for (int i = 0; i < 5; ++i) rig.loop.run(rig.pause());
    CHECK(rig.most_running == 2);
  }
  SUBCASE("one that needs both") {
    rig.cpus = 2;
    rig.submit();
    rig.submit();
    rig.until([&] { return rig.running == 1; });
    for (int i = 0; i < 5; ++i) rig.loop.run(rig.pause());
    CHECK(rig.most_running == 1);
  }
  SUBCASE("memory") {
    REQUIRE(rig.try_submit("f", mib(60)).has_value());
    REQUIRE(rig.try_submit("f", mib(60)).has_value());
    rig.until([&] { return rig.running == 1; });
    for (int i = 0; i < 5; ++i) rig.loop.run(rig.pause());
    CHECK(rig.most_running == 1);
  }
  SUBCASE("what can never fit is refused with the figure") {
    const auto refused = rig.try_submit("f", mib(101));
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().reason == reason::kTooLarge);
    CHECK(refused.error().message.find("100MiB") != std::string::npos);
  }
  SUBCASE("nor are more accepted of a project than may be open") {
    for (int i = 0; i < 5; ++i) rig.submit();
    CHECK(rig.try_submit().error().reason == reason::kQueueFull);
    CHECK(rig.try_submit("other/f").has_value());
  }
}

TEST_CASE("when requests need the memory a slice stops, and no other begins until there is some") {
  JobRig rig;
  rig.slice = [&](const SliceAsk& ask) { return rig.step(ask, 1); };
  rig.hang = true;
  const std::string id = rig.submit();
  rig.until([&] { return rig.running == 1; });
  rig.memory = false;
  rig.until([&] { return rig.stops == 1 && rig.running == 0; });
  rig.hang = false;
  for (int i = 0; i < 5; ++i) rig.loop.run(rig.pause());
  CHECK(rig.order.size() == 1);
  rig.memory = true;
  CHECK(rig.until_over(id).state == JobState::Done);
}

TEST_CASE("whose time is over ends when another waits, or when it keeps no checkpoints") {
  JobRig rig;
  rig.slice_length = 1ms;
  rig.kind = JobKind::Trial;  // which keeps some by itself
  rig.cpus = 2;               // one at a time
  rig.hang = true;
  SUBCASE("with checkpoints it goes on until another waits") {
    rig.restart();
    rig.submit();
    rig.until([&] { return rig.running == 1; });
    for (int i = 0; i < 20; ++i) rig.loop.run(rig.pause());
    CHECK(rig.turns == 0);
    const std::string other = rig.submit();
    rig.until([&] { return rig.order.back() == other; });
    CHECK(rig.turns == 1);
  }
  SUBCASE("but not for ever") {
    rig.longest_slice = 2ms;
    rig.restart();
    rig.submit();
    rig.until([&] { return rig.turns == 1; });
  }
  SUBCASE("without any it ends alone") {
    rig.kind = JobKind::Run;
    rig.restart();
    rig.submit();
    rig.until([&] { return rig.turns == 1; });
  }
}

TEST_CASE("projects take turns") {
  JobRig rig;
  rig.cpus = 2;  // one at a time
  rig.memory = false;
  const std::string first = rig.submit("a/f");
  const std::string second = rig.submit("a/f");
  const std::string other = rig.submit("b/f");
  rig.memory = true;
  rig.until_over(second);
  rig.until_over(other);
  CHECK(rig.order == std::vector<std::string>{first, other, second});
}

TEST_CASE("what has not ended in time expires, and what is kept long enough is forgotten") {
  JobRig rig;
  rig.hang = true;
  rig.max_age = 20ms;
  const std::string id = rig.submit();
  CHECK(rig.until_over(id).state == JobState::Expired);
  rig.until([&] { return rig.running == 0; });
  REQUIRE(rig.store->sweep(rig.engine->now() + 2h).has_value());
  CHECK(rig.loop.run(rig.engine->find(id)).error().reason == reason::kNotFound);
}

TEST_CASE("a slice that the object store failed is put back and counts for nothing") {
  JobRig rig;
  int tries = 0;
  rig.slice = [&](const SliceAsk&) {
    ++tries;
    return JobRig::failed(reason::kStoreUnavailable, false);
  };
  const std::string id = rig.submit();
  rig.until([&] { return tries == 1 && rig.running == 0; });
  rig.until([&] { return rig.find(id).state == JobState::Queued; });
  CHECK(rig.find(id).failures == 0);
}

TEST_CASE("what a project's jobs keep stays within its quota") {
  JobRig rig;
  // Of each checkpoint a state and a part of 7 and 6 bytes; the last two states are kept.
  rig.slice = [&](const SliceAsk& ask) { return rig.step(ask, 2); };
  rig.byte_limit = Bytes{13};
  const JobRecord failed = rig.until_over(rig.submit());
  CHECK(failed.state == JobState::Failed);
  CHECK(failed.reason == reason::kQuotaExceeded);
  CHECK(failed.message.starts_with("job_bytes: "));
  CHECK(rig.store->bytes_of("default").value() == Bytes{});
  rig.byte_limit = Bytes{26};
  CHECK(rig.until_over(rig.submit()).state == JobState::Done);
  CHECK(rig.until_over(rig.submit("other/f")).state == JobState::Done);
}

TEST_CASE("a checkpoint over the quota is refused, and the one before stays") {
  JobRig rig;
  rig.keeps = true;
  rig.byte_limit = Bytes{3};
  (void)rig.until_over(rig.submit());
  REQUIRE_FALSE(rig.kept.has_value());
  CHECK(rig.kept.error().reason == reason::kQuotaExceeded);
}

TEST_CASE("thousands of parts are kept, and go when their job is over") {
  JobRig rig;
  constexpr std::uint32_t kParts = 5000;
  rig.slice = [&](const SliceAsk& ask) {
    if (ask.job.slices == 1) return rig.done();
    SliceOutcome outcome{.result = JobStore::SliceResult{}, .pin = rig.store->pin()};
    const JobFile part = rig.file(FileRole::Part, "part", "rows", outcome.pin);
    for (std::uint32_t number = 1; number <= kParts; ++number) {
      outcome.result->files.push_back(part);
      outcome.result->files.back().name = fmt::format("part-{:06}", number);
    }
    return outcome;
  };
  rig.byte_limit = Bytes{4};  // equal files count once
  std::size_t seen = 0;
  const auto first = rig.slice;
  rig.slice = [&](const SliceAsk& ask) {
    if (ask.job.slices == 1) seen = ask.files.size();
    return first(ask);
  };
  const JobRecord job = rig.until_over(rig.submit());
  CHECK(job.state == JobState::Done);
  CHECK(seen == kParts);
  CHECK(rig.store->files(job.spec.id)->empty());
}

TEST_CASE("a job without a jail runs where there is room for none") {
  JobRig rig;
  rig.hang = true;
  rig.submit();
  rig.submit();
  rig.until([&] { return rig.running == 2; });
  rig.cpus = 0;
  const std::string id = rig.try_submit("f", Bytes{})->spec.id;
  rig.until([&] { return rig.running == 3; });
  CHECK(rig.find(id).spec.cpus == 0);
  rig.memory = false;  // nor is it stopped for the memory that it has not
  rig.until([&] { return rig.stops == 2 && rig.running == 1; });
  CHECK(rig.find(id).state == JobState::Running);
}

TEST_CASE("the parts of a job are paused, ended and forgotten with it, and listed only by it") {
  JobRig rig;
  rig.hang = true;
  rig.cpus = 0;
  const std::string whole = rig.try_submit("f", Bytes{})->spec.id;
  rig.cpus = 2;
  const std::string running = rig.try_submit("f", mib(10), whole)->spec.id;
  const std::string waiting = rig.try_submit("f", mib(10), whole)->spec.id;
  rig.until([&] { return rig.running == 2; });
  const auto ids = [&](const std::string& parent) {
    std::set<std::string> found;
    for (const JobRecord& job :
         rig.loop.run(rig.engine->list({.project = "default", .parent = parent})).value())
      found.insert(job.spec.id);
    return found;
  };
  const auto all_are = [&](JobState state) {
    return std::ranges::all_of(std::vector{whole, running, waiting},
                               [&](const std::string& id) { return rig.find(id).state == state; });
  };
  CHECK(ids("") == std::set{whole});
  CHECK(ids(whole) == std::set{running, waiting});
  SUBCASE("paused, and on again") {
    rig.slice = [&](const SliceAsk& ask) { return rig.step(ask, 1); };
    REQUIRE(rig.loop.run(rig.engine->pause(whole)).has_value());
    rig.until([&] { return all_are(JobState::Paused); });
    rig.hang = false;
    REQUIRE(rig.loop.run(rig.engine->resume(whole)).has_value());
    for (const std::string& id : {running, waiting, whole}) rig.until_over(id);
  }
  SUBCASE("cancelled") {
    REQUIRE(rig.loop.run(rig.engine->cancel(whole)).has_value());
    CHECK(all_are(JobState::Cancelled));
    rig.until([&] { return rig.running == 0; });
  }
  SUBCASE("failed") {
    rig.slice = [](const SliceAsk&) { return JobRig::failed(reason::kFunctionError, false); };
    REQUIRE(rig.loop.run(rig.engine->pause(whole)).has_value());  // ends what hangs
    rig.until([&] { return is_over(rig.find(whole).state); });
    rig.until([&] { return is_over(rig.find(waiting).state); });
    rig.until([&] { return rig.running == 0; });
  }
  SUBCASE("expired, and forgotten when the whole is") {
    const WallTime later = rig.engine->now() + 2h;
    REQUIRE(rig.loop.run(rig.engine->cancel(running)).has_value());
    REQUIRE(rig.store->sweep(later).has_value());
    CHECK(rig.find(waiting).state == JobState::Expired);
    CHECK(rig.find(running).state == JobState::Cancelled);
    CHECK(rig.find(whole).state == JobState::Expired);
    REQUIRE(rig.store->sweep(later + 59min).has_value());
    CHECK(ids(whole).size() == 2);
    REQUIRE(rig.store->sweep(later + 61min).has_value());
    CHECK(ids(whole).empty());
  }
}
