#include "gateway/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <utility>
#include <vector>

namespace mayfly {
namespace {

using namespace std::chrono_literals;
using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;

constexpr Duration kDropAfter = 15min;
constexpr Duration kDropEvery = 1min;

// 20 µs … 80 s, factor 3: a start from a template and a cold 1 GB load both fall inside.
const Histogram::BucketBoundaries& seconds_buckets() {
  static const Histogram::BucketBoundaries buckets = [] {
    Histogram::BucketBoundaries bounds;
    for (double bound = 20e-6; bound < 100; bound *= 3) bounds.push_back(bound);
    return bounds;
  }();
  return buckets;
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

struct Metrics::Families {
  prometheus::Registry registry;
  Family<Counter>& requests =
      BuildCounter()
          .Name("mayfly_requests_total")
          .Help("Predictions by function and reason; reason is empty for a success")
          .Register(registry);
  Family<Histogram>& queue = BuildHistogram()
                                 .Name("mayfly_queue_seconds")
                                 .Help("Accepted until handed to an instance")
                                 .Register(registry);
  Family<Histogram>& start = BuildHistogram()
                                 .Name("mayfly_start_seconds")
                                 .Help("Handed over until the instance runs, by start tier")
                                 .Register(registry);
  Family<Histogram>& run = BuildHistogram()
                               .Name("mayfly_run_seconds")
                               .Help("The instance runs the model")
                               .Register(registry);
  Family<Counter>& cpu = BuildCounter()
                             .Name("mayfly_cpu_seconds_total")
                             .Help("CPU time of instances")
                             .Register(registry);
  Family<Counter>& refused = BuildCounter()
                                 .Name("mayfly_refused_total")
                                 .Help("Requests refused before a function was known")
                                 .Register(registry);
  Family<Counter>& publishes =
      BuildCounter().Name("mayfly_publishes_total").Help("Deploys by outcome").Register(registry);
  Histogram& publish_seconds = BuildHistogram()
                                   .Name("mayfly_publish_seconds")
                                   .Help("How long publishing took")
                                   .Register(registry)
                                   .Add({}, seconds_buckets());
  Family<Gauge>& instances =
      BuildGauge().Name("mayfly_instances").Help("Instances by state").Register(registry);
  Family<Gauge>& templates =
      BuildGauge().Name("mayfly_templates").Help("Templates by state").Register(registry);
  Family<Gauge>& node =
      BuildGauge().Name("mayfly_node").Help("The node's own quantities").Register(registry);
};

struct Metrics::FunctionSeries {
  FunctionSeries(Families& all, std::string function)
      : families(all),
        name(std::move(function)),
        queue(add(all.queue)),
        run(add(all.run)),
        cpu(all.cpu.Add({{"function", name}})) {}
  ~FunctionSeries() {
    families.queue.Remove(&queue);
    families.run.Remove(&run);
    families.cpu.Remove(&cpu);
    for (const auto& [tier, series] : starts) families.start.Remove(series);
    for (const auto& [reason, series] : requests) families.requests.Remove(series);
  }
  FunctionSeries(const FunctionSeries&) = delete;
  FunctionSeries& operator=(const FunctionSeries&) = delete;

  Histogram& add(Family<Histogram>& family) {
    return family.Add({{"function", name}}, seconds_buckets());
  }
  Counter& request(std::string_view reason) {
    const auto found = requests.find(reason);
    if (found != requests.end()) return *found->second;
    Counter& added = families.requests.Add({{"function", name}, {"reason", std::string(reason)}});
    requests.emplace(reason, &added);
    return added;
  }
  Histogram& start(StartTier tier) {
    Histogram*& series = starts[tier];
    if (series == nullptr) {
      series = &families.start.Add({{"function", name}, {"tier", std::string(to_string(tier))}},
                                   seconds_buckets());
    }
    return *series;
  }

  Families& families;
  std::string name;
  Histogram& queue;
  Histogram& run;
  Counter& cpu;
  std::map<StartTier, Histogram*> starts;
  std::map<std::string, Counter*, std::less<>> requests;
  TimePoint last_used;
};

Metrics::Metrics(const Clock& clock) : clock_(clock), families_(std::make_unique<Families>()) {}
Metrics::~Metrics() { functions_.clear(); }

Metrics::FunctionSeries& Metrics::series(std::string_view function) {
  auto found = functions_.find(function);
  if (found == functions_.end()) {
    drop_idle();  // whether or not anybody ever asks for the text
    std::string name(function);
    found = functions_.emplace(name, std::make_unique<FunctionSeries>(*families_, name)).first;
  }
  found->second->last_used = clock_.now();
  return *found->second;
}

void Metrics::prediction(std::string_view function, std::string_view reason, StartTier tier,
                         const Timing& timing) {
  FunctionSeries& of = series(function);
  of.request(reason).Increment();
  if (tier == StartTier::None) return;
  of.queue.Observe(seconds(timing.queue));
  if (tier != StartTier::Hot) of.start(tier).Observe(seconds(timing.start));
  of.run.Observe(seconds(timing.run));
  of.cpu.Increment(seconds(timing.cpu));
}

void Metrics::refused(std::string_view reason) {
  families_->refused.Add({{"reason", std::string(reason)}}).Increment();
}

void Metrics::published(Duration took, bool succeeded) {
  families_->publishes.Add({{"outcome", succeeded ? "published" : "refused"}}).Increment();
  families_->publish_seconds.Observe(seconds(took));
}

void Metrics::forget(std::string_view function) {
  const auto found = functions_.find(function);
  if (found != functions_.end()) functions_.erase(found);
}

void Metrics::drop_idle() {
  const TimePoint now = clock_.now();
  if (now - last_drop_ < kDropEvery) return;
  last_drop_ = now;
  std::erase_if(functions_,
                [&](const auto& item) { return now - item.second->last_used > kDropAfter; });
}

std::string Metrics::expose(const NodeGauges& gauges) {
  drop_idle();
  const auto set = [](Family<Gauge>& family, const char* label, const char* value,
                      std::uint64_t number) {
    family.Add({{label, value}}).Set(static_cast<double>(number));
  };
  set(families_->instances, "state", "idle", gauges.instances_idle);
  set(families_->instances, "state", "running", gauges.instances_running);
  set(families_->instances, "state", "starting", gauges.instances_starting);
  set(families_->templates, "state", "ready", gauges.templates_ready);
  set(families_->templates, "state", "building", gauges.templates_building);
  set(families_->node, "quantity", "functions", gauges.functions);
  set(families_->node, "quantity", "queued", gauges.queued);
  set(families_->node, "quantity", "memory_bytes", gauges.memory_bytes);
  set(families_->node, "quantity", "memory_budget_bytes", gauges.memory_budget_bytes);
  set(families_->node, "quantity", "connections", gauges.connections);
  return prometheus::TextSerializer().Serialize(families_->registry.Collect());
}

}  // namespace mayfly
