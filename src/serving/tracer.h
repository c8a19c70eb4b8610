// Which predictions are recorded as traces, and what is told of them. Loop thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/rng.h"
#include "trace/span_exporter.h"
#include "trace/trace_context.h"

namespace mayfly {

struct Invocation;

class Tracer {
 public:
  // Both outlive me. Without an exporter nothing is recorded.
  Tracer(Rng& rng, double sample, SpanExporter* exporter)
      : rng_(rng), sample_(sample), exporter_(exporter) {}

  // What a prediction is in a trace.
  struct Place {
    TraceContext context;  // its own
    std::optional<SpanId> parent{};
  };
  // nullopt: it is not recorded. `lookup` finds the caller's traceparent, where anybody wants it.
  using Lookup = std::function<std::optional<std::string_view>(std::string_view name)>;
  std::optional<Place> begin(const Lookup& lookup);
  // It is about to be answered. `reason` is empty for a success.
  void end(const Invocation& tried, std::string_view reason, Duration whole);

 private:
  Rng& rng_;
  double sample_;
  SpanExporter* exporter_;
};

}  // namespace mayfly
