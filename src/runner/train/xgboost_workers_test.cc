#include "runner/train/xgboost_workers.h"

#include <sys/mman.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "core/reason.h"
#include "runner/train/xgboost_part.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

// What workers have done, seen by all processes.
struct Seen {
  std::atomic<std::uint32_t> joined{0}, restored_bytes{0}, steps{0}, ended{0};
};

class SharedSeen {
 public:
  SharedSeen()
      : page_(::mmap(nullptr, sizeof(Seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                     0)),
        seen_(new(page_) Seen) {}
  ~SharedSeen() { ::munmap(page_, sizeof(Seen)); }
  SharedSeen(const SharedSeen&) = delete;
  SharedSeen& operator=(const SharedSeen&) = delete;
  Seen* operator->() const { return seen_; }

 private:
  void* page_;
  Seen* seen_;
};

struct CountsItsEnd {
  SharedSeen& seen;
  ~CountsItsEnd() { ++seen->ended; }
};

WorkerDuties counting(SharedSeen& seen) {
  const auto end = std::make_shared<CountsItsEnd>(seen);
  return {.join = [&seen, end](std::string_view tracker) -> Status {
            if (tracker == "there") ++seen->joined;
            return {};
          },
          .restore = [&seen](std::string_view saved) -> Status {
            seen->restored_bytes += static_cast<std::uint32_t>(saved.size());
            return {};
          },
          .step = [&seen](std::uint32_t round) -> Status {
            seen->steps += round;
            return {};
          }};
}

TEST_CASE("workers do what they are told, in order, and end when they are dismissed") {
  SharedSeen seen;
  {
    auto workers = XgboostWorkers::fork(4, [&](std::uint32_t) { return counting(seen); });
    REQUIRE(workers.has_value());
    REQUIRE(workers->join("there").has_value());
    REQUIRE(workers->restore(std::string(3'000'000, 'x')).has_value());
    for (std::uint32_t round = 0; round < 100; ++round) REQUIRE(workers->step(round).has_value());
  }
  CHECK(seen->joined == 3);
  CHECK(seen->restored_bytes == 9'000'000);
  CHECK(seen->steps == 3 * 99 * 50);
  CHECK(seen->ended == 3);
}

TEST_CASE("a worker that fails or is killed is named, with what it said") {
  const auto fails_with = [](const std::function<Status()>& step) {
    auto workers = XgboostWorkers::fork(3, [&](std::uint32_t rank) {
      return WorkerDuties{
          .join = [](std::string_view) { return Status(); },
          .restore = [](std::string_view) { return Status(); },
          .step = [&step, rank](std::uint32_t) { return rank == 2 ? step() : Status(); }};
    });
    REQUIRE(workers.has_value());
    Status told = workers->step(0);
    const Error why =
        workers->cause_of(told ? Error{Code::Internal, "the others were lost", {}} : told.error());
    workers->kill();
    return why.message;
  };
  CHECK(fails_with([] {
          return Status(fail(Code::Internal, "no memory is left"));
        }).starts_with("worker 3 of 3 failed: no memory is left"));
  CHECK(fails_with([]() -> Status {
          throw std::bad_alloc();
        }).starts_with("worker 3 of 3 failed: std::bad_alloc"));
  CHECK(fails_with([] {
          ::raise(SIGKILL);
          return Status();
        }).starts_with("worker 3 of 3 failed: it was killed"));
}

TEST_CASE("rows are divided evenly, and groups stay whole") {
  const auto even = divide_rows(10, {}, 3);
  REQUIRE(even.has_value());
  std::size_t at = 0;
  for (const RowPart& part : *even) {
    CHECK(part.first == at);
    CHECK((part.count == 3 || part.count == 4));
    at += part.count;
  }
  CHECK(at == 10);
  const std::vector<std::uint32_t> groups = {4, 1, 2, 3};
  const auto whole = divide_rows(10, groups, 2);
  REQUIRE(whole.has_value());
  const RowPart &first = whole->front(), &second = whole->back();
  CHECK(first.groups + second.groups == 4);
  CHECK(second.first_group == first.groups);
  CHECK(first.count + second.count == 10);
  CHECK(second.first == first.count);
  CHECK(second.count == 5);
}

TEST_CASE("no worker is without rows") {
  CHECK(divide_rows(2, {}, 3).error().reason == reason::kInvalidInput);
  const std::vector<std::uint32_t> groups = {9, 1};
  CHECK(divide_rows(10, groups, 3).error().reason == reason::kInvalidInput);
}

}  // namespace
}  // namespace mayfly
