// W3C Trace Context, level 1 (w3.org/TR/trace-context): who asked, as part of which trace. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/rng.h"

namespace mayfly {

using TraceId = std::array<std::byte, 16>;
using SpanId = std::array<std::byte, 8>;

struct TraceContext {
  TraceId trace{};
  SpanId span{};         // of whoever asks
  bool sampled = false;  // whether it records the trace
  bool operator==(const TraceContext&) const = default;
};

// "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01". nullopt: not of that form, or an id of
// zeros. A later version than 00 may have more fields behind these.
std::optional<TraceContext> parse_traceparent(std::string_view header);
std::string to_traceparent(const TraceContext& context);

std::string hex(const TraceId& id);
std::string hex(const SpanId& id);

// Never of zeros only, which mean none.
SpanId make_span_id(Rng& rng);
TraceId make_trace_id(Rng& rng);

// Whether a trace that begins here is recorded: `ratio` of all, by the trace's own bits, so that
// every node decides alike.
bool samples(const TraceId& id, double ratio);

}  // namespace mayfly
