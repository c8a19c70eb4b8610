#include "events/event_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <chrono>
#include <string_view>

namespace mayfly {
namespace {

using CounterFamily = prometheus::Family<prometheus::Counter>;
using GaugeFamily = prometheus::Family<prometheus::Gauge>;
using HistogramFamily = prometheus::Family<prometheus::Histogram>;

// 10 ms … a day: from an idle instance to a queue of hours.
const prometheus::Histogram::BucketBoundaries& event_buckets() {
  static const prometheus::Histogram::BucketBoundaries buckets = {
      0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 300, 900, 3600, 21'600, 86'400};
  return buckets;
}

double in_seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string_view attempt_outcome(std::optional<Verdict> verdict) {
  if (!verdict) return "lost";
  switch (*verdict) {
    case Verdict::Done:
      return "done";
    case Verdict::Retry:
      return "retry";
    case Verdict::Bury:
      return "dead";
    case Verdict::PutBack:
      return "put_back";
  }
  return "lost";
}

// nullopt: it is no attempt.
std::optional<std::string_view> delivery_outcome(Told told, DeliveryState state) {
  if (told == Told::CutOff) return std::nullopt;
  if (state == DeliveryState::Delivered) return "delivered";
  return state == DeliveryState::GivenUp ? "given_up" : "failed";
}

}  // namespace

struct EventMetrics::EventFamilies {
  prometheus::Registry registry;
  GaugeFamily& events = prometheus::BuildGauge()
                            .Name("mayfly_events")
                            .Help("Events that the node knows, by state")
                            .Register(registry);
  GaugeFamily& oldest = prometheus::BuildGauge()
                            .Name("mayfly_event_oldest_waiting_seconds")
                            .Help("How long the longest waiting event was accepted ago")
                            .Register(registry);
  CounterFamily& attempts = prometheus::BuildCounter()
                                .Name("mayfly_event_attempts_total")
                                .Help("Attempts at events, by what became of them")
                                .Register(registry);
  HistogramFamily& seconds = prometheus::BuildHistogram()
                                 .Name("mayfly_event_seconds")
                                 .Help("Accepted until done or dead")
                                 .Register(registry);
  CounterFamily& runs = prometheus::BuildCounter()
                            .Name("mayfly_schedule_runs_total")
                            .Help("Runs of schedules, by outcome")
                            .Register(registry);
  CounterFamily& deliveries = prometheus::BuildCounter()
                                  .Name("mayfly_delivery_attempts_total")
                                  .Help("Attempts to tell of the ends of events, by outcome")
                                  .Register(registry);
  GaugeFamily& unsettled = prometheus::BuildGauge()
                               .Name("mayfly_deliveries_unsettled")
                               .Help("Ends of events that wait to be told or are being told")
                               .Register(registry);
};

EventMetrics::EventMetrics() : families_(std::make_unique<EventFamilies>()) {}
EventMetrics::~EventMetrics() = default;

void EventMetrics::attempt(std::optional<Verdict> verdict) {
  families_->attempts.Add({{"outcome", std::string(attempt_outcome(verdict))}}).Increment();
}

void EventMetrics::ended(WorkState state, Duration after) {
  families_->seconds.Add({{"state", std::string(to_string(state))}}, event_buckets())
      .Observe(in_seconds(std::max(after, Duration(0))));
}

void EventMetrics::told(Told told, DeliveryState state) {
  if (const auto outcome = delivery_outcome(told, state))
    families_->deliveries.Add({{"outcome", std::string(*outcome)}}).Increment();
}

std::string EventMetrics::expose(const Gauges& gauges) {
  for (std::size_t i = 0; gauges.queue && i < kWorkStates; ++i) {
    const std::string state(to_string(static_cast<WorkState>(i)));
    families_->events.Add({{"state", state}}).Set(static_cast<double>(gauges.queue->counts[i]));
  }
  if (gauges.queue) {
    const auto oldest = gauges.queue->oldest_waiting;
    const Duration age = oldest ? std::max(gauges.now - *oldest, Duration(0)) : Duration(0);
    families_->oldest.Add({}).Set(in_seconds(age));
  }
  if (gauges.deliveries) families_->unsettled.Add({}).Set(static_cast<double>(*gauges.deliveries));
  for (std::size_t i = 0; i < kRunOutcomes; ++i) {
    const std::string outcome(to_string(static_cast<RunOutcome>(i)));
    prometheus::Counter& runs = families_->runs.Add({{"outcome", outcome}});
    runs.Increment(static_cast<double>(gauges.schedule_runs[i]) - runs.Value());
  }
  return prometheus::TextSerializer().Serialize(families_->registry.Collect());
}

}  // namespace mayfly
