#include "trace/span.h"

#include <utility>

namespace mayfly {

std::vector<Span> spans_of(const TracedPrediction& prediction, Rng& rng) {
  std::vector<Span> spans;
  spans.push_back({.trace = prediction.context.trace,
                   .id = prediction.context.span,
                   .parent = prediction.parent,
                   .name = "predict " + prediction.function,
                   .kind = Span::Kind::Server,
                   .begin = prediction.accepted,
                   .end = prediction.ended,
                   .attributes = {{"mayfly.project", prediction.project},
                                  {"mayfly.function", prediction.function},
                                  {"mayfly.version", prediction.version},
                                  {"mayfly.start", prediction.tier},
                                  {"mayfly.invocation", prediction.invocation}},
                   .error = prediction.error});
  if (!prediction.decoding) return spans;
  WallTime at = prediction.accepted + *prediction.decoding;
  const auto add = [&](const char* name, Duration took) {
    spans.push_back({.trace = prediction.context.trace,
                     .id = make_span_id(rng),
                     .parent = prediction.context.span,
                     .name = name,
                     .begin = at,
                     .end = at + took});
    at += took;
  };
  add("queue", prediction.timing.queue);
  if (prediction.timing.start > Duration::zero()) add("start", prediction.timing.start);
  if (prediction.timing.run > Duration::zero()) add("run", prediction.timing.run);
  return spans;
}

}  // namespace mayfly
