#include "serving/metrics.h"

#include <string>

#include "base/testing/fake_clock.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

TEST_CASE("a function's series appear with its first request and go when it has been idle") {
  FakeClock clock;
  Metrics metrics(clock);
  CHECK(metrics.expose({}).find("fraud") == std::string::npos);
  metrics.prediction("fraud", {2}, "", StartTier::Template,
                     {.queue = 1us, .start = 350us, .run = 3us, .cpu = 100us});
  metrics.prediction("fraud", {2}, "queue_full", StartTier::None, {});
  const std::string text = metrics.expose({.instances_idle = 2});
  CHECK(
      text.find(
          R"(mayfly_requests_total{function="fraud",reason="queue_full",tier="none",version="2"} 1)") !=
      std::string::npos);
  CHECK(
      text.find(R"(mayfly_start_seconds_count{function="fraud",tier="template",version="2"} 1)") !=
      std::string::npos);
  CHECK(text.find(R"(mayfly_run_seconds_count{function="fraud",version="2"} 1)") !=
        std::string::npos);
  CHECK(text.find(R"(mayfly_instances{state="idle"} 2)") != std::string::npos);
  clock.advance(16min);
  CHECK(metrics.expose({}).find("fraud") == std::string::npos);
}

TEST_CASE("series of idle functions go although nobody asks for the text") {
  FakeClock clock;
  Metrics metrics(clock);
  for (int hour = 0; hour < 100; ++hour) {
    metrics.prediction("f" + std::to_string(hour), {1}, "", StartTier::Hot, {});
    clock.advance(1h);
  }
  CHECK(metrics.functions() == 1);
}

TEST_CASE("a deleted function's series go at once") {
  FakeClock clock;
  Metrics metrics(clock);
  metrics.prediction("fraud", {2}, "", StartTier::Hot, {});
  metrics.prediction("fraud2", {1}, "", StartTier::Hot, {});
  metrics.forget("fraud");
  const std::string text = metrics.expose({});
  CHECK(text.find(R"(function="fraud")") == std::string::npos);
  CHECK(text.find(R"(function="fraud2")") != std::string::npos);
}

TEST_CASE("versions beyond the bound share their series") {
  FakeClock clock;
  Metrics metrics(clock);
  const auto last = static_cast<std::uint32_t>(Metrics::kVersions) + 5;
  for (std::uint32_t version = 1; version <= last; ++version)
    metrics.prediction("fraud", {version}, "", StartTier::Hot, {});
  metrics.prediction("fraud", {1}, "", StartTier::Hot, {});
  const std::string text = metrics.expose({});
  CHECK(text.find(R"(mayfly_run_seconds_count{function="fraud",version="1"} 2)") !=
        std::string::npos);
  CHECK(text.find(R"(mayfly_run_seconds_count{function="fraud",version="other"} 5)") !=
        std::string::npos);
  CHECK(text.find(R"(version="17")") == std::string::npos);
}
