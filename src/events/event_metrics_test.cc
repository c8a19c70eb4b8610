#include "events/event_metrics.h"

#include <chrono>
#include <string>

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

TEST_CASE("what becomes of events is counted and timed") {
  EventMetrics metrics;
  metrics.attempt(Verdict::Retry);
  metrics.attempt(Verdict::Done);
  metrics.attempt(Verdict::Done);
  metrics.attempt({});
  metrics.ended(WorkState::Done, 2s);
  metrics.ended(WorkState::Dead, 26h);
  metrics.ended(WorkState::Done, -1s);  // the clock was set back
  EventMetrics::Gauges gauges{.queue = WorkQueue::Overview{}, .now = WallTime(100h)};
  gauges.queue->counts[static_cast<std::size_t>(WorkState::Waiting)] = 7;
  gauges.queue->oldest_waiting = WallTime(99h);
  gauges.schedule_runs[static_cast<std::size_t>(RunOutcome::Missed)] = 3;
  const std::string text = metrics.expose(gauges);
  CAPTURE(text);
  for (const char* line :
       {"mayfly_events{state=\"waiting\"} 7", "mayfly_events{state=\"expired\"} 0",
        "mayfly_event_oldest_waiting_seconds 3600",
        "mayfly_event_attempts_total{outcome=\"done\"} 2",
        "mayfly_event_attempts_total{outcome=\"retry\"} 1",
        "mayfly_event_attempts_total{outcome=\"lost\"} 1",
        "mayfly_event_seconds_bucket{state=\"done\",le=\"1\"} 1",
        "mayfly_event_seconds_bucket{state=\"done\",le=\"3\"} 2",
        "mayfly_event_seconds_bucket{state=\"dead\",le=\"86400\"} 0",
        "mayfly_event_seconds_count{state=\"dead\"} 1",
        "mayfly_schedule_runs_total{outcome=\"missed\"} 3"}) {
    CAPTURE(line);
    CHECK(text.contains(line));
  }
  // Counters stay what they are, however often they are read.
  gauges.queue->oldest_waiting = {};
  const std::string again = metrics.expose(gauges);
  CHECK(again.contains("mayfly_schedule_runs_total{outcome=\"missed\"} 3"));
  CHECK(again.contains("mayfly_event_oldest_waiting_seconds 0"));
}

TEST_CASE("while the queue cannot be read, its gauges keep still") {
  EventMetrics metrics;
  CHECK_FALSE(metrics.expose({.queue = {}, .now = WallTime(1h)}).contains("mayfly_events{"));
}
