#include "trace/otlp.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace mayfly {
namespace {

using OtlpJson = nlohmann::ordered_json;

constexpr int kStatusError = 2;

OtlpJson attribute(std::string_view key, const std::variant<std::string, std::int64_t>& value) {
  OtlpJson any;
  if (const auto* text = std::get_if<std::string>(&value)) {
    any["stringValue"] = *text;
  } else {
    any["intValue"] = std::to_string(std::get<std::int64_t>(value));
  }
  return {{"key", key}, {"value", std::move(any)}};
}

std::string nanoseconds(WallTime time) {
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch());
  return std::to_string(since.count());
}

OtlpJson span_json(const Span& span) {
  OtlpJson json{{"traceId", hex(span.trace)}, {"spanId", hex(span.id)}};
  if (span.parent) json["parentSpanId"] = hex(*span.parent);
  json["name"] = span.name;
  json["kind"] = std::to_underlying(span.kind);
  json["startTimeUnixNano"] = nanoseconds(span.begin);
  json["endTimeUnixNano"] = nanoseconds(span.end);
  OtlpJson attributes = OtlpJson::array();
  for (const auto& [key, value] : span.attributes) attributes.push_back(attribute(key, value));
  if (!attributes.empty()) json["attributes"] = std::move(attributes);
  if (!span.error.empty()) json["status"] = {{"code", kStatusError}, {"message", span.error}};
  return json;
}

}  // namespace

std::string encode_otlp(const OtlpResource& resource, std::span<const Span> spans) {
  OtlpJson list = OtlpJson::array();
  for (const Span& span : spans) list.push_back(span_json(span));
  OtlpJson attributes = OtlpJson::array();
  attributes.push_back(attribute("service.name", resource.service));
  attributes.push_back(attribute("service.version", resource.version));
  attributes.push_back(attribute("service.instance.id", resource.instance));
  OtlpJson scope{{"scope", {{"name", "mayfly"}}}};
  scope["spans"] = std::move(list);
  OtlpJson all;
  all["resource"]["attributes"] = std::move(attributes);
  all["scopeSpans"] = OtlpJson::array({std::move(scope)});
  OtlpJson request;
  request["resourceSpans"] = OtlpJson::array({std::move(all)});
  return request.dump(-1, ' ', false, OtlpJson::error_handler_t::replace);
}

}  // namespace mayfly
