// simdjson's on-demand documents behind Result. Only for *.cc of this folder: the include is heavy.
//
// On-demand parsing validates what is read; what is skipped only has to balance, which
// skip_json_value bounds in depth.
#pragma once

#include <simdjson.h>

#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "core/reason.h"
#include "core/wire/json_parser.h"

namespace mayfly {

namespace ondemand = simdjson::ondemand;

struct JsonParser::Buffers {
  ondemand::parser parser;
};

// Lets a value out of simdjson's result; its error becomes bad_request: "<what>: <why>".
Error json_error(simdjson::error_code code, std::string_view what);

template <typename T>
Result<T> json_get(simdjson::simdjson_result<T>&& result, std::string_view what) {
  T value;
  const simdjson::error_code code = std::move(result).get(value);
  if (code != simdjson::SUCCESS) [[unlikely]] {
    return std::unexpected(json_error(code, what));
  }
  return value;
}

// Makes `text` safe to parse in place (simdjson reads up to 64 bytes beyond the end) and begins.
// Views into `text` stay valid while it is moved, never when it is changed: it is on the heap.
Result<ondemand::document> begin_document(JsonParser& parser, std::string& text);
// After the last value was read: nothing may follow.
Status end_document(ondemand::document& document);

// Calls `visit(key, value)` for each field of a document or value.
template <typename Source, typename Visit>
Status for_each_field(Source&& value, std::string_view what, Visit visit) {
  ondemand::object object = TRY(json_get(value.get_object(), what));
  for (auto item : object) {
    ondemand::field field = TRY(json_get(std::move(item), what));
    const std::string_view key = TRY(json_get(field.unescaped_key(), what));
    TRY(visit(key, field.value()));
  }
  return {};
}

// Calls `visit(value)` for each element.
template <typename Visit>
Status for_each_element(ondemand::value value, std::string_view what, Visit visit) {
  ondemand::array array = TRY(json_get(value.get_array(), what));
  for (auto item : array) {
    ondemand::value element = TRY(json_get(std::move(item), what));
    TRY(visit(element));
  }
  return {};
}

// The text of a value, passed over without being read.
Result<std::string_view> skip_json_value(ondemand::value value, std::string_view what);

}  // namespace mayfly
