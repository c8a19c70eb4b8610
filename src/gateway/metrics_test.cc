#include "gateway/metrics.h"

#include <string>

#include "base/testing/fake_clock.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

TEST_CASE("a function's series appear with its first request and go when it has been idle") {
  FakeClock clock;
  Metrics metrics(clock);
  CHECK(metrics.expose({}).find("fraud") == std::string::npos);
  metrics.prediction("fraud", "", StartTier::Template,
                     {.queue = 1us, .start = 350us, .run = 3us, .cpu = 100us});
  metrics.prediction("fraud", "queue_full", StartTier::None, {});
  const std::string text = metrics.expose({.instances_idle = 2});
  CHECK(text.find(R"(mayfly_requests_total{function="fraud",reason="queue_full"} 1)") !=
        std::string::npos);
  CHECK(text.find(R"(mayfly_start_seconds_count{function="fraud",tier="template"} 1)") !=
        std::string::npos);
  CHECK(text.find(R"(mayfly_run_seconds_count{function="fraud"} 1)") != std::string::npos);
  CHECK(text.find(R"(mayfly_instances{state="idle"} 2)") != std::string::npos);
  clock.advance(16min);
  CHECK(metrics.expose({}).find("fraud") == std::string::npos);
}

TEST_CASE("series of idle functions go although nobody asks for the text") {
  FakeClock clock;
  Metrics metrics(clock);
  for (int hour = 0; hour < 100; ++hour) {
    metrics.prediction("f" + std::to_string(hour), "", StartTier::Hot, {});
    clock.advance(1h);
  }
  CHECK(metrics.functions() == 1);
}

TEST_CASE("a deleted function's series go at once") {
  FakeClock clock;
  Metrics metrics(clock);
  metrics.prediction("fraud", "", StartTier::Hot, {});
  metrics.prediction("fraud2", "", StartTier::Hot, {});
  metrics.forget("fraud");
  const std::string text = metrics.expose({});
  CHECK(text.find(R"(function="fraud")") == std::string::npos);
  CHECK(text.find(R"(function="fraud2")") != std::string::npos);
}
