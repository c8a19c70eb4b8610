// Spans as the JSON of an ExportTraceServiceRequest (OTLP 1.x over HTTP,
// opentelemetry.io/docs/specs/otlp): ids in hexadecimal, times in nanoseconds since the epoch as
// text. Pure.
#pragma once

#include <span>
#include <string>

#include "trace/span.h"

namespace mayfly {

struct OtlpResource {
  std::string service = "mayfly";
  std::string version{};
  std::string instance{};  // tells nodes apart
};

std::string encode_otlp(const OtlpResource& resource, std::span<const Span> spans);

}  // namespace mayfly
