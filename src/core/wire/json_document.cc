#include "core/wire/json_document.h"

#include <fmt/format.h>

#include "core/wire/tensor_from_json.h"

namespace mayfly {
namespace {
// The parser keeps about six bytes of buffers per byte of the largest document it has seen.
constexpr std::size_t kKeepCapacity = 1024 * 1024;
}  // namespace

JsonParser::JsonParser() : buffers_(std::make_unique<Buffers>()) {}
JsonParser::~JsonParser() = default;
JsonParser::JsonParser(JsonParser&&) noexcept = default;
JsonParser& JsonParser::operator=(JsonParser&&) noexcept = default;

Error json_error(simdjson::error_code code, std::string_view what) {
  return refuse(reason::kBadRequest, fmt::format("{}: {}", what, simdjson::error_message(code)))
      .error();
}

Result<ondemand::document> begin_document(JsonParser& parser, std::string& text) {
  if (text.capacity() - text.size() < simdjson::SIMDJSON_PADDING) {
    text.reserve(text.size() + simdjson::SIMDJSON_PADDING);
  }
  if (parser.buffers().parser.capacity() > kKeepCapacity)
    parser.buffers().parser = ondemand::parser();
  return json_get(parser.buffers().parser.iterate(text.data(), text.size(), text.capacity()),
                  "the request is not JSON");
}

Status end_document(ondemand::document& document) {
  // At the end there is no location.
  if (document.current_location().error() != simdjson::OUT_OF_BOUNDS) {
    return refuse(reason::kBadRequest, "the request is not JSON: text follows its end");
  }
  return {};
}

Result<std::string_view> skip_json_value(ondemand::value value, std::string_view what) {
  // Told by the first character: NaN and Infinity are scalars to us and errors to value.type().
  std::string_view text = value.raw_json_token();
  if (text.starts_with('[')) {
    ondemand::array array = TRY(json_get(value.get_array(), what));
    text = TRY(json_get(array.raw_json(), what));
  } else if (text.starts_with('{')) {
    ondemand::object object = TRY(json_get(value.get_object(), what));
    text = TRY(json_get(object.raw_json(), what));
  }
  TRY(check_json_depth(text,
                       kMaxJsonDepth - 4));  // what stands around it takes at most four levels
  return text;
}

}  // namespace mayfly
