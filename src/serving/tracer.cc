#include "serving/tracer.h"

#include "serving/invoker.h"

namespace mayfly {

std::optional<Tracer::Place> Tracer::begin(const Lookup& lookup) {
  if (exporter_ == nullptr) return std::nullopt;
  const auto traceparent = lookup("traceparent");
  const auto caller = traceparent ? parse_traceparent(*traceparent) : std::nullopt;
  TraceContext own{.sampled = true};
  if (caller) {
    if (!caller->sampled) return std::nullopt;
    own.trace = caller->trace;
  } else {
    own.trace = make_trace_id(rng_);
    if (!samples(own.trace, sample_)) return std::nullopt;
  }
  own.span = make_span_id(rng_);
  Place place{.context = own};
  if (caller) place.parent = caller->span;
  return place;
}

void Tracer::end(const Invocation& tried, std::string_view reason, Duration whole) {
  if (!tried.trace || !tried.serving) return;
  std::optional<Duration> decoding;
  if (tried.decoded != TimePoint{}) decoding = tried.decoded - tried.begun;
  exporter_->offer(
      spans_of({.context = tried.trace->context,
                .parent = tried.trace->parent,
                .function = std::string(tried.serving->name()),
                .version = tried.serving->version.value,
                .invocation = to_string(tried.id),
                .tier = std::string(to_string(tried.tier())),
                .project = tried.caller->project,
                .accepted = tried.accepted,
                .ended = tried.accepted + std::chrono::duration_cast<WallTime::duration>(whole),
                .decoding = decoding,
                .timing = tried.timing(),
                .error = std::string(reason)},
               rng_));
}

}  // namespace mayfly
