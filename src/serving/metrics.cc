#include "serving/metrics.h"

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
// Versions that share a series: they begin at 1.
constexpr std::uint32_t kOther = 0;

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
          .Help("Predictions by version, start tier and reason, which is empty for a success")
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
  Family<Histogram>& first_chunk = BuildHistogram()
                                       .Name("mayfly_time_to_first_chunk_seconds")
                                       .Help("A stream's request came until its first chunk did")
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
  Family<Gauge>& environments = BuildGauge()
                                    .Name("mayfly_environment_templates")
                                    .Help("Environment templates that wait or are prepared")
                                    .Register(registry);
  Family<Gauge>& node =
      BuildGauge().Name("mayfly_node").Help("The node's own quantities").Register(registry);
  Family<Counter>& cache_events = BuildCounter()
                                      .Name("mayfly_cache_total")
                                      .Help("What became of kept replies")
                                      .Register(registry);
  Family<Counter>& spans = BuildCounter()
                               .Name("mayfly_trace_spans_total")
                               .Help("Spans of predictions: sent to the collector, or dropped")
                               .Register(registry);
  Family<Counter>& scrub = BuildCounter()
                               .Name("mayfly_scrub_total")
                               .Help("What the scrub has read again, and what it found damaged")
                               .Register(registry);
  Family<Gauge>& cache =
      BuildGauge().Name("mayfly_cache").Help("Replies that are kept").Register(registry);
};

struct Metrics::VersionSeries {
  VersionSeries(Families& all, std::string function, std::uint32_t version)
      : families(all),
        labels{{"function", std::move(function)},
               {"version", version == kOther ? "other" : std::to_string(version)}},
        queue(add(all.queue)),
        run(add(all.run)),
        cpu(all.cpu.Add(labels)) {}
  ~VersionSeries() {
    families.queue.Remove(&queue);
    families.run.Remove(&run);
    families.cpu.Remove(&cpu);
    if (first_chunk != nullptr) families.first_chunk.Remove(first_chunk);
    for (const auto& [tier, series] : starts) families.start.Remove(series);
    for (const auto& [key, series] : requests) families.requests.Remove(series);
  }
  VersionSeries(const VersionSeries&) = delete;
  VersionSeries& operator=(const VersionSeries&) = delete;

  using Labels = std::map<std::string, std::string>;
  Labels with(std::string name, std::string_view value) const {
    Labels more = labels;
    more.emplace(std::move(name), value);
    return more;
  }
  Histogram& add(Family<Histogram>& family) { return family.Add(labels, seconds_buckets()); }
  Counter& request(std::string_view reason, StartTier tier) {
    const auto found = requests.find(std::pair(reason, tier));
    if (found != requests.end()) return *found->second;
    Labels more = with("reason", reason);
    more.emplace("tier", to_string(tier));
    Counter& added = families.requests.Add(more);
    requests.emplace(std::pair(std::string(reason), tier), &added);
    return added;
  }
  Histogram& start(StartTier tier) {
    Histogram*& series = starts[tier];
    if (series == nullptr)
      series = &families.start.Add(with("tier", to_string(tier)), seconds_buckets());
    return *series;
  }

  // Reason and tier.
  struct Less {
    using is_transparent = void;
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return a.second != b.second ? a.second < b.second
                                  : std::string_view(a.first) < std::string_view(b.first);
    }
  };

  Families& families;
  Labels labels;
  Histogram& queue;
  Histogram& run;
  Counter& cpu;
  Histogram* first_chunk = nullptr;  // of those that stream
  std::map<StartTier, Histogram*> starts;
  std::map<std::pair<std::string, StartTier>, Counter*, Less> requests;
  TimePoint last_used;
};

Metrics::Metrics(const Clock& clock) : clock_(clock), families_(std::make_unique<Families>()) {}
Metrics::~Metrics() { functions_.clear(); }

Metrics::VersionSeries& Metrics::series(std::string_view function, VersionNumber version) {
  auto of = functions_.find(function);
  if (of == functions_.end()) {
    drop_idle();  // whether or not anybody ever asks for the text
    of = functions_.emplace(std::string(function), Versions{}).first;
  }
  Versions& versions = of->second;
  auto found = versions.find(version.value);
  if (found == versions.end()) {
    const std::uint32_t label = versions.size() < kVersions ? version.value : kOther;
    found = versions.try_emplace(label).first;
    if (found->second == nullptr)
      found->second = std::make_unique<VersionSeries>(*families_, of->first, label);
  }
  found->second->last_used = clock_.now();
  return *found->second;
}

void Metrics::prediction(std::string_view function, VersionNumber version, std::string_view reason,
                         StartTier tier, const Timing& timing) {
  VersionSeries& of = series(function, version);
  of.request(reason, tier).Increment();
  if (tier == StartTier::None) return;
  of.queue.Observe(seconds(timing.queue));
  if (tier != StartTier::Hot) of.start(tier).Observe(seconds(timing.start));
  of.run.Observe(seconds(timing.run));
  of.cpu.Increment(seconds(timing.cpu));
}

void Metrics::first_chunk(std::string_view function, VersionNumber version, Duration took) {
  VersionSeries& of = series(function, version);
  if (of.first_chunk == nullptr) of.first_chunk = &of.add(families_->first_chunk);
  of.first_chunk->Observe(seconds(took));
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
  for (auto& [function, versions] : functions_) {
    std::erase_if(versions,
                  [&](const auto& item) { return now - item.second->last_used > kDropAfter; });
  }
  std::erase_if(functions_, [](const auto& item) { return item.second.empty(); });
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
  set(families_->environments, "quantity", "ready", gauges.environments_ready);
  set(families_->environments, "quantity", "preparing", gauges.environments_preparing);
  set(families_->environments, "quantity", "memory_bytes", gauges.environments_bytes);
  set(families_->node, "quantity", "functions", gauges.functions);
  set(families_->node, "quantity", "queued", gauges.queued);
  set(families_->node, "quantity", "memory_bytes", gauges.memory_bytes);
  set(families_->node, "quantity", "memory_budget_bytes", gauges.memory_budget_bytes);
  set(families_->node, "quantity", "connections", gauges.connections);
  const auto count = [](Family<Counter>& family, const char* label, const char* value,
                        std::uint64_t total) {
    Counter& counter = family.Add({{label, value}});
    counter.Increment(static_cast<double>(total) - counter.Value());
  };
  count(families_->cache_events, "event", "hit", gauges.cache.hits);
  count(families_->cache_events, "event", "miss", gauges.cache.misses);
  count(families_->cache_events, "event", "evicted", gauges.cache.evicted);
  count(families_->scrub, "event", "round", gauges.scrub.rounds);
  count(families_->scrub, "event", "byte", gauges.scrub.bytes);
  count(families_->scrub, "event", "damaged_blob", gauges.scrub.damaged_blobs);
  count(families_->scrub, "event", "damaged_form", gauges.scrub.damaged_forms);
  if (gauges.spans) {
    count(families_->spans, "outcome", "sent", gauges.spans->sent);
    count(families_->spans, "outcome", "dropped", gauges.spans->dropped);
  }
  set(families_->cache, "quantity", "entries", gauges.cache.entries);
  set(families_->cache, "quantity", "bytes", gauges.cache.bytes.count);
  return prometheus::TextSerializer().Serialize(families_->registry.Collect());
}

}  // namespace mayfly
