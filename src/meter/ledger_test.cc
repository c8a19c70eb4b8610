#include "meter/ledger.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/testing/fake_clock.h"
#include "core/reason.h"
#include "meter/ledger_reader.h"
#include "meter/segment.h"
#include "store/testing/small_disk.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

InvocationRecord numbered(std::uint64_t number, WallTime time = WallTime(1h)) {
  InvocationRecord record;
  for (std::size_t i = 0; i < 8; ++i) {
    record.invocation.bytes[i] = static_cast<std::byte>(number >> (8 * (7 - i)));
  }
  record.time = time;
  record.function = "fraud";
  record.version = {1};
  record.tier = StartTier::Hot;
  record.run = 10us;
  record.memory_limit = mib(1);
  return record;
}

std::uint64_t number_of(const InvocationRecord& record) {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    number = number << 8 | std::to_integer<std::uint64_t>(record.invocation.bytes[i]);
  }
  return number;
}

std::string batch(std::uint64_t from, std::uint64_t count, WallTime time = WallTime(1h)) {
  std::string frames;
  for (std::uint64_t i = 0; i < count; ++i) encode_record(numbered(from + i, time), frames);
  return frames;
}

std::vector<std::uint64_t> numbers_in(const Path& folder, const TimeRange& range = {}) {
  std::vector<std::uint64_t> numbers;
  const auto read = for_each_record(folder, range, [&](const InvocationRecord& record) -> Status {
    numbers.push_back(number_of(record));
    return {};
  });
  REQUIRE(read.has_value());
  return numbers;
}

std::uint64_t requests_in(const Path& folder) {
  std::uint64_t requests = 0;
  for (const auto& [key, usage] : read_usage(folder, {}).value().rows()) requests += usage.requests;
  return requests;
}

struct Fixture {
  FakeClock clock;
  TempDir temp = TempDir::create().value();
  Path folder = temp.path() / "ledger";
  std::unique_ptr<Ledger> open(const LedgerOptions& options = {}) const {
    return Ledger::open(folder, clock, options).value();
  }
};

void append_to_file(const Path& path, std::string_view bytes) {
  const Fd file = open_file(path, O_WRONLY | O_APPEND).value();
  REQUIRE(write_all(file.get(), bytes).has_value());
}

void damage(const Path& path, std::uint64_t offset) {
  const Fd file = open_file(path, O_WRONLY).value();
  REQUIRE(::pwrite(file.get(), "\xff\xff\xff\xff", 4, static_cast<off_t>(offset)) == 4);
}

const LedgerRetention kKeepAll{.max_age = 24h * 36500, .max_bytes = gib(1000)};
const LedgerRetention kKeepNothing{.max_age = 24h * 36500, .max_bytes = {0}};

}  // namespace

TEST_CASE("records come back in order, also after a restart") {
  const Fixture f;
  {
    const auto ledger = f.open();
    REQUIRE(ledger->append(batch(1, 3)).has_value());
    REQUIRE(ledger->append(batch(4, 1)).has_value());
    CHECK(numbers_in(f.folder) == std::vector<std::uint64_t>{1, 2, 3, 4});
  }
  const auto ledger = f.open();
  REQUIRE(ledger->append(batch(5, 1)).has_value());
  CHECK(numbers_in(f.folder) == std::vector<std::uint64_t>{1, 2, 3, 4, 5});
}

TEST_CASE("always means that append syncs before it returns") {
  const Fixture f;
  const auto ledger = f.open({.sync = LedgerSync::Always});
  REQUIRE(ledger->append(batch(1, 1)).has_value());
  CHECK(ledger->sync().has_value());
  CHECK(numbers_in(f.folder).size() == 1);
}

TEST_CASE("a torn tail is cut off and nothing before it is lost") {
  const Fixture f;
  {
    REQUIRE(f.open()->append(batch(1, 2)).has_value());
  }
  const std::string torn = batch(3, 1);
  for (const std::string& tail :
       {torn.substr(0, 5), torn.substr(0, torn.size() - 1), std::string(4096, '\0')}) {
    append_to_file(log_path(f.folder, 1), tail);
    const auto ledger = f.open();
    CHECK(numbers_in(f.folder) == std::vector<std::uint64_t>{1, 2});
    CHECK(mayfly::file_size(log_path(f.folder, 1)).value() ==
          kSegmentMagic.size() + batch(1, 2).size());
  }
}

TEST_CASE("a segment whose very beginning was torn starts over") {
  const Fixture f;
  {
    f.open();
  }
  REQUIRE(::truncate(log_path(f.folder, 1).c_str(), 3) == 0);
  REQUIRE(f.open()->append(batch(1, 1)).has_value());
  CHECK(numbers_in(f.folder).size() == 1);
}

TEST_CASE("damage in the middle costs the record it hit, not those behind it") {
  const Fixture f;
  {
    REQUIRE(f.open()->append(batch(1, 5)).has_value());
  }
  damage(log_path(f.folder, 1), kSegmentMagic.size() + batch(1, 1).size() + 20);
  const auto ledger = f.open();
  CHECK(numbers_in(f.folder) == std::vector<std::uint64_t>{1, 3, 4, 5});
  damage(log_path(f.folder, 1), 0);
  CHECK(numbers_in(f.folder) == std::vector<std::uint64_t>{1, 3, 4, 5});
}

TEST_CASE("a segment ends at its size and at midnight") {
  Fixture f;
  const auto ledger = f.open({.segment_size = {300}});
  for (std::uint64_t i = 1; i <= 6; ++i) REQUIRE(ledger->append(batch(i, 1)).has_value());
  CHECK(list_segments(f.folder).value().size() == 2);
  f.clock.advance(24h);
  REQUIRE(ledger->append(batch(7, 1)).has_value());
  CHECK(list_segments(f.folder).value().size() == 3);
  CHECK(numbers_in(f.folder).size() == 7);
}

TEST_CASE("reading a time range gives the records of that range") {
  const Fixture f;
  const auto ledger = f.open({.segment_size = {300}});
  for (std::uint64_t i = 1; i <= 9; ++i) {
    REQUIRE(ledger->append(batch(i, 1, WallTime(i * 1h))).has_value());
  }
  REQUIRE(ledger->maintain(kKeepAll).has_value());
  CHECK(numbers_in(f.folder, {.from = WallTime(3h), .until = WallTime(5h)}) ==
        std::vector<std::uint64_t>{3, 4});
  const auto usage = read_usage(f.folder, {.from = {8}, .until = {100}});
  CHECK(usage->rows().size() == 2);
}

TEST_CASE("the usage of the past is the same before sealing, after it and after pruning") {
  Fixture f;
  const auto ledger = f.open({.segment_size = {1000}});
  for (std::uint64_t i = 1; i <= 50; ++i) {
    REQUIRE(ledger->append(batch(i, 1, WallTime(i * 10min))).has_value());
  }
  const UsageTable before = read_usage(f.folder, {}).value();
  REQUIRE(ledger->maintain(kKeepAll).has_value());
  CHECK(read_usage(f.folder, {}).value() == before);
  CHECK(numbers_in(f.folder).size() == 50);
  REQUIRE(ledger->maintain(kKeepNothing).has_value());
  CHECK(read_usage(f.folder, {}).value() == before);
  CHECK(numbers_in(f.folder).size() < 10);
  REQUIRE(ledger->maintain(kKeepNothing).has_value());
  CHECK(read_usage(f.folder, {}).value() == before);
}

TEST_CASE("pruning by age removes only what is older, pruning by size the oldest first") {
  Fixture f;
  const auto ledger = f.open({.segment_size = {10}});
  const WallTime now = f.clock.wall_now();
  for (std::uint64_t i = 1; i <= 4; ++i) {
    REQUIRE(ledger->append(batch(i, 1, now - (5 - i) * 24h)).has_value());
  }
  REQUIRE(ledger->maintain({.max_age = 60h, .max_bytes = gib(1)}).has_value());
  CHECK(numbers_in(f.folder) == std::vector<std::uint64_t>{3, 4});
  REQUIRE(ledger->maintain({.max_age = 10000h, .max_bytes = {1}}).has_value());
  CHECK(numbers_in(f.folder) == std::vector<std::uint64_t>{4});
  CHECK(requests_in(f.folder) == 4);
}

TEST_CASE("a restart between sealing and pruning neither loses nor doubles") {
  const Fixture f;
  {
    const auto ledger = f.open({.segment_size = {10}});
    for (std::uint64_t i = 1; i <= 3; ++i) REQUIRE(ledger->append(batch(i, 1)).has_value());
    REQUIRE(ledger->maintain(kKeepAll).has_value());
  }
  CHECK(requests_in(f.folder) == 3);
  REQUIRE(write_file_durably(f.folder / "000000000009.totals.77.tmp", "torn").has_value());
  {
    const auto ledger = f.open({.segment_size = {10}});
    CHECK_FALSE(mayfly::file_size(f.folder / "000000000009.totals.77.tmp").has_value());
    REQUIRE(ledger->maintain(kKeepNothing).has_value());
    REQUIRE(ledger->append(batch(4, 1)).has_value());
  }
  CHECK(requests_in(f.folder) == 4);
}

TEST_CASE("a folder whose newest segment is sealed goes on with the next number") {
  const Fixture f;
  {
    REQUIRE(f.open()->append(batch(1, 1)).has_value());
  }
  const auto totals = total_up(f.folder, 1).value();
  REQUIRE(write_file_durably(totals_path(f.folder, 1), encode_totals(totals)).has_value());
  REQUIRE(f.open()->append(batch(2, 1)).has_value());
  CHECK(list_segments(f.folder).value().back().number == 2);
  CHECK(requests_in(f.folder) == 2);
}

TEST_CASE("a full disk refuses the whole batch with storage_full, and a probe finds room again") {
  const Fixture f;
  const auto ledger = f.open();
  REQUIRE(ledger->append(batch(1, 2)).has_value());
  {
    const FileSizeLimit limit(kSegmentMagic.size() + batch(1, 2).size() + 100);
    const auto refused = ledger->append(batch(3, 2));
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().reason == reason::kStorageFull);
    CHECK_FALSE(ledger->healthy());
    CHECK_FALSE(ledger->probe().has_value());
    CHECK(mayfly::file_size(log_path(f.folder, 1)).value() ==
          kSegmentMagic.size() + batch(1, 2).size());
  }
  CHECK_FALSE(ledger->healthy());
  CHECK(ledger->probe().has_value());
  CHECK(ledger->healthy());
  REQUIRE(ledger->append(batch(5, 1)).has_value());
  CHECK(numbers_in(f.folder) == std::vector<std::uint64_t>{1, 2, 5});
}

TEST_CASE("a really full file system refuses batches and takes them again when there is room") {
  const auto small = SmallDisk::mount(256 * 1024);
  if (!small) return;  // not allowed to mount: the size limit above covers the same path
  FakeClock clock;
  const auto ledger =
      Ledger::open(small->path() / "ledger", clock, {.segment_size = kib(64)}).value();
  std::uint64_t kept = 0;
  while (ledger->append(batch(kept + 1, 50))) kept += 50;
  CHECK(kept > 0);
  CHECK_FALSE(ledger->healthy());
  CHECK(numbers_in(ledger->folder()).size() == kept);
  REQUIRE(::unlink(log_path(ledger->folder(), 1).c_str()) == 0);
  REQUIRE(ledger->sync().has_value());  // lets go of the segment that was removed
  CHECK(ledger->probe().has_value());
  CHECK(ledger->append(batch(1, 50)).has_value());
}

TEST_CASE("readers and maintenance run beside the loop thread") {
  const Fixture f;
  const auto ledger = f.open({.sync_interval = 1ms, .segment_size = {4000}});
  std::atomic<bool> done = false;
  std::thread maintainer([&] {
    while (!done) {
      if (!ledger->maintain({.max_age = 24h * 36500, .max_bytes = {8000}})) std::abort();
    }
  });
  std::thread reader([&] {
    std::uint64_t last = 0;
    while (!done) {
      const std::uint64_t now = requests_in(f.folder);
      if (now < last) std::abort();
      last = now;
      if (!ledger->sync()) std::abort();
    }
  });
  for (std::uint64_t i = 0; i < 300; ++i) REQUIRE(ledger->append(batch(i * 10, 10)).has_value());
  done = true;
  maintainer.join();
  reader.join();
  CHECK(requests_in(f.folder) == 3000);
}

namespace {

// Appends numbered batches, maintains now and then, and reports each batch after append returned.
[[noreturn]] void append_until_killed(const Fixture& f, std::uint64_t next, int report,
                                      const LedgerRetention& retention) {
  const auto ledger = f.open({.sync_interval = 1ms, .segment_size = {20'000}});
  for (std::uint64_t round = 0;; ++round) {
    const std::uint64_t count = 1 + next % 7;
    if (!ledger->append(batch(next, count))) ::_exit(1);
    next += count;
    if (::write(report, &next, sizeof next) != sizeof next) ::_exit(1);
    if (round % 50 == 49 && !ledger->maintain(retention)) ::_exit(1);
  }
}

// Kills the child after some reports; returns what it reported last.
std::uint64_t run_and_kill(const Fixture& f, std::uint64_t next, int reports,
                           const LedgerRetention& retention) {
  Pipe pipe = make_pipe().value();
  // A page of reports is all that the child may be ahead, however late this process is woken.
  REQUIRE(::fcntl(pipe.write_end.get(), F_SETPIPE_SZ, 4096) >= 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) append_until_killed(f, next, pipe.write_end.get(), retention);
  pipe.write_end.reset();
  std::uint64_t last = next;
  for (int i = 0; i < reports; ++i) {
    REQUIRE(::read(pipe.read_end.get(), &last, sizeof last) == sizeof last);
  }
  ::kill(child, SIGKILL);
  while (::read(pipe.read_end.get(), &last, sizeof last) == sizeof last) {
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  return last;
}

}  // namespace

TEST_CASE("after kill -9 every reported record is there exactly once") {
  const Fixture f;
  std::random_device entropy;
  const unsigned seed = entropy();
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::uint64_t next = 1;
  for (int round = 0; round < 30; ++round) {
    const std::uint64_t reported =
        run_and_kill(f, next, static_cast<int>(random() % 200), kKeepAll);
    {
      f.open();
    }
    std::map<std::uint64_t, int> seen;
    for (const std::uint64_t number : numbers_in(f.folder)) ++seen[number];
    next = 1;
    for (const auto& [number, times] : seen) {
      REQUIRE(times == 1);
      REQUIRE(number == next++);
    }
    REQUIRE(next >= reported);  // the last batch may be there without its report
    REQUIRE(next <= reported + 7);
  }
}

TEST_CASE("after kill -9 during sealing and pruning usage counts every record once") {
  const Fixture f;
  std::random_device entropy;
  const unsigned seed = entropy();
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::uint64_t next = 1;
  for (int round = 0; round < 20; ++round) {
    const std::uint64_t reported = run_and_kill(f, next, static_cast<int>(random() % 300),
                                                {.max_age = 24h * 36500, .max_bytes = {30'000}});
    {
      f.open();
    }
    next = requests_in(f.folder) + 1;
    REQUIRE(next >= reported);
    REQUIRE(next <= reported + 7);
  }
}
