#include "events/verdict.h"

#include "core/reason.h"
#include "core/store_reason.h"
#include "events/backoff.h"
#include "events/event.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

TEST_CASE("waits double up to the longest, each anywhere between nothing and its bound") {
  const Backoff backoff{.first = 1s, .longest = 10s};
  const std::uint64_t most = ~std::uint64_t{0};
  CHECK(wait_after(backoff, 1, 0) == 0s);
  CHECK(wait_after(backoff, 1, most) == 1s);
  CHECK(wait_after(backoff, 2, most) == 2s);
  CHECK(wait_after(backoff, 4, most) == 8s);
  CHECK(wait_after(backoff, 5, most) == 10s);
  CHECK(wait_after(backoff, 4'000'000'000, most) == 10s);
  const Duration middle = wait_after(backoff, 3, most / 2);
  CHECK(middle > 1990ms);
  CHECK(middle < 2010ms);
}

TEST_CASE("an answer is the end, and a failure is tried again as often as the function allows") {
  CHECK(judge({.reason = ""}, {.max_attempts = 1}) == Verdict::Done);
  CHECK(judge({.reason = reason::kDeadlineExceeded}, {.attempts = 0, .max_attempts = 2}) ==
        Verdict::Retry);
  CHECK(judge({.reason = reason::kDeadlineExceeded}, {.attempts = 1, .max_attempts = 2}) ==
        Verdict::Bury);
  CHECK(judge({.reason = reason::kInternal}, {.attempts = 98, .max_attempts = 100}) ==
        Verdict::Retry);
}

TEST_CASE("what kills its instance twice is not given a third") {
  const Tries second{.attempts = 1, .kills = 1, .max_attempts = 100};
  CHECK(judge({.reason = reason::kInstanceCrashed}, {.max_attempts = 100}) == Verdict::Retry);
  CHECK(judge({.reason = reason::kInstanceCrashed}, second) == Verdict::Bury);
  CHECK(judge({.reason = reason::kOutOfMemory}, second) == Verdict::Bury);
  CHECK(judge({.reason = reason::kDeadlineExceeded}, second) == Verdict::Retry);
}

TEST_CASE("a fresh instance that dies with the event in its hands was killed by it") {
  const Tries second{.attempts = 1, .kills = 1, .max_attempts = 100};
  const Ended fresh{.reason = reason::kStartFailed, .tier = StartTier::Template};
  CHECK(killed_instance(fresh));
  CHECK(judge(fresh, second) == Verdict::Bury);
  const Ended none{.reason = reason::kStartFailed, .tier = StartTier::None};
  CHECK_FALSE(killed_instance(none));
  CHECK(judge(none, second) == Verdict::PutBack);
}

TEST_CASE("the platform's fault counts for nothing, what never changes is not tried again") {
  const Tries last{.attempts = 3, .max_attempts = 4};
  for (const auto slug : {reason::kNodeBusy, reason::kMemoryPressure, reason::kDraining,
                          reason::kClientGone, reason::kStorageFull, reason::kStoreUnavailable})
    CHECK(judge({.reason = slug}, last) == Verdict::PutBack);
  for (const auto slug : {reason::kInvalidInput, reason::kModelError, reason::kUnknownFunction})
    CHECK(judge({.reason = slug}, {.max_attempts = 4}) == Verdict::Bury);
}

TEST_CASE("what is kept of an event comes back as it was, and damage is noticed") {
  const EventRequest request{.target = "/functions/iris@3",
                             .headers = {{"Content-Type", "application/json"}, {"X", "a\"b"}},
                             .project = "team",
                             .caller = "ci (key:4f2a)",
                             .request_id = "r-1"};
  CHECK(parse_event_request(to_json(request)).value() == request);
  const EventReply reply{.status = 200, .headers = {{"Content-Type", "image/png"}}};
  CHECK(parse_event_reply(to_json(reply)).value() == reply);
  for (const char* bad : {"", "{", "[]", R"({"target":3})", R"({"status":"x","headers":[]})"}) {
    CHECK(parse_event_request(bad).error().code == Code::DataLoss);
    CHECK(parse_event_reply(bad).error().code == Code::DataLoss);
  }
}
