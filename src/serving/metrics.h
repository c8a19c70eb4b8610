// What /metrics shows: prometheus-cpp's registry with our families. Series of a function appear
// with its first request and are dropped when nothing was asked of it for a while, so that 10,000
// idle functions cost no series. Loop thread only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "core/invocation.h"
#include "core/names.h"
#include "publish/scrub.h"
#include "serving/response_cache.h"
#include "trace/span_exporter.h"

namespace mayfly {

struct NodeGauges {
  std::uint64_t functions = 0;
  std::uint64_t instances_idle = 0;
  std::uint64_t instances_running = 0;
  std::uint64_t instances_starting = 0;
  std::uint64_t templates_ready = 0;
  std::uint64_t templates_building = 0;
  std::uint64_t environments_ready = 0;
  std::uint64_t environments_preparing = 0;
  std::uint64_t environments_bytes = 0;
  std::uint64_t queued = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t memory_budget_bytes = 0;
  std::uint64_t connections = 0;
  ResponseCache::Counts cache{};
  Scrub::Counts scrub{};
  std::optional<SpanExporter::Counts> spans{};  // nullopt: none are exported
};

class Metrics {
 public:
  // Of one function that have series of their own at a time; the others share version="other".
  static constexpr std::size_t kVersions = 16;

  explicit Metrics(const Clock& clock);  // outlives me
  ~Metrics();

  // One finished prediction. `reason` is empty when it succeeded.
  void prediction(std::string_view function, VersionNumber version, std::string_view reason,
                  StartTier tier, const Timing& timing);
  // Of a stream: from the head of its request to its first chunk.
  void first_chunk(std::string_view function, VersionNumber version, Duration took);
  void refused(std::string_view reason);  // before a function was known
  void published(Duration took, bool succeeded);

  void forget(std::string_view function);  // it was deleted

  // That have series: of those called lately.
  std::size_t functions() const { return functions_.size(); }

  // The text of /metrics (Prometheus text format 0.0.4); drops the series of idle functions first.
  std::string expose(const NodeGauges& gauges);

 private:
  struct Families;
  struct VersionSeries;
  VersionSeries& series(std::string_view function, VersionNumber version);
  void drop_idle();

  const Clock& clock_;
  TimePoint last_drop_;
  std::unique_ptr<Families> families_;
  using Versions = std::map<std::uint32_t, std::unique_ptr<VersionSeries>>;
  std::map<std::string, Versions, std::less<>> functions_;
};

}  // namespace mayfly
