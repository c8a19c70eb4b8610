// What happened when, as OpenTelemetry tells it. Values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "core/invocation.h"
#include "trace/trace_context.h"

namespace mayfly {

struct Span {
  enum class Kind : std::uint8_t { Internal = 1, Server = 2 };  // OTLP's numbers
  using Attribute = std::pair<std::string, std::variant<std::string, std::int64_t>>;

  TraceId trace{};
  SpanId id{};
  std::optional<SpanId> parent{};
  std::string name;
  Kind kind = Kind::Internal;
  WallTime begin{};
  WallTime end{};
  std::vector<Attribute> attributes{};
  std::string error{};  // a reason; empty: it went well
};

// A prediction as its caller's child, and of it what it spent its time on.
struct TracedPrediction {
  TraceContext context{};  // the prediction's own
  std::optional<SpanId> parent{};
  std::string function{};
  std::int64_t version = 0;
  std::string invocation{};
  std::string tier{};
  std::string project{};
  WallTime accepted{};
  WallTime ended{};
  std::optional<Duration> decoding{};  // from `accepted` until it was queued; nullopt: it was not
  Timing timing{};
  std::string error{};
};

// The first is the prediction's; of one that was queued the queue follows, and start and run where
// they took any time.
std::vector<Span> spans_of(const TracedPrediction& prediction, Rng& rng);

}  // namespace mayfly
