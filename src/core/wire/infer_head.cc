#include "core/wire/infer_head.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "core/wire/json_document.h"

namespace mayfly {
namespace {

std::unexpected<Error> bad(std::string message) {
  return refuse(reason::kBadRequest, std::move(message));
}

std::unexpected<Error> unsupported(std::string_view parameter) {
  return refuse(reason::kUnsupported,
                fmt::format("parameter '{}' is not supported by this server", parameter));
}

template <typename T>
Status once(const std::optional<T>& seen, std::string_view key) {
  if (seen.has_value()) return bad(fmt::format("'{}' is given twice", key));
  return {};
}

Result<std::string_view> read_string(ondemand::value value, std::string_view key) {
  return json_get(value.get_string(), key);
}

Result<Shape> read_shape(ondemand::value value) {
  Shape shape;
  ondemand::array array = TRY(json_get(value.get_array(), "shape"));
  for (auto item : array) {
    ondemand::value dimension = TRY(json_get(std::move(item), "shape"));
    if (shape.size() == kMaxRank)
      return bad(fmt::format("a shape has at most {} dimensions", kMaxRank));
    shape.push_back(TRY(json_get(dimension.get_int64(), "shape")));
  }
  return shape;
}

Status skip(ondemand::value value, std::string_view key) {
  TRY(skip_json_value(value, key));
  return {};
}

// shared_memory_region, _byte_size, _offset.
Status shared_parameter(std::string_view key, ondemand::value value,
                        std::optional<SharedRange>& shared) {
  if (!shared) shared.emplace();
  if (key == "shared_memory_region") {
    shared->region = TRY(json_get(value.get_string(), key));
  } else if (key == "shared_memory_byte_size") {
    shared->size = TRY(json_get(value.get_uint64(), key));
  } else if (key == "shared_memory_offset") {
    shared->offset = TRY(json_get(value.get_uint64(), key));
  } else {
    return unsupported(key);
  }
  return {};
}

Status input_parameter(std::string_view key, ondemand::value value, HeadInput& input) {
  if (key == "binary_data_size") {
    TRY(once(input.binary_size, key));
    input.binary_size = TRY(json_get(value.get_uint64(), key));
    return {};
  }
  if (key.starts_with("shared_memory_")) return shared_parameter(key, value, input.shared);
  return skip(value, key);
}

Status input_field(std::string_view key, ondemand::value value, HeadInput& input) {
  if (key == "name") {
    TRY(once(input.name, key));
    input.name = TRY(read_string(value, key));
  } else if (key == "datatype") {
    TRY(once(input.datatype, key));
    input.datatype = TRY(read_string(value, key));
  } else if (key == "shape") {
    TRY(once(input.shape, key));
    input.shape = TRY(read_shape(value));
  } else if (key == "data") {
    TRY(once(input.data, key));
    ondemand::array array = TRY(json_get(value.get_array(), "data"));
    input.data = TRY(json_get(array.raw_json(), "data"));
  } else if (key == "parameters") {
    return for_each_field(value, "parameters of an input",
                          [&](std::string_view k, auto v) { return input_parameter(k, v, input); });
  } else {
    return skip(value, key);
  }
  return {};
}

Status output_parameter(std::string_view key, ondemand::value value, HeadOutput& output) {
  if (key == "binary_data") {
    TRY(once(output.form, key));
    output.form = TRY(json_get(value.get_bool(), key)) ? OutputForm::Binary : OutputForm::Json;
    return {};
  }
  if (key == "classification") {
    output.classes = TRY(json_get(value.get_uint64(), key));
    return {};
  }
  if (key.starts_with("shared_memory_")) return shared_parameter(key, value, output.shared);
  return skip(value, key);
}

Result<HeadOutput> read_output(ondemand::value value) {
  HeadOutput output;
  std::optional<std::string_view> name;
  TRY(for_each_field(value, "outputs", [&](std::string_view key, auto field) -> Status {
    if (key == "name") {
      TRY(once(name, key));
      name = TRY(read_string(field, key));
      return {};
    }
    if (key != "parameters") return skip(field, key);
    return for_each_field(field, "parameters of an output", [&](std::string_view k, auto v) {
      return output_parameter(k, v, output);
    });
  }));
  if (!name) return bad("an output has no name");
  output.name = *name;
  return output;
}

// Only what would start, continue or end a sequence is refused: clients send the defaults too.
Status sequence_parameter(std::string_view key, ondemand::value value) {
  const std::string_view text = value.raw_json_token();
  const std::string_view token = text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
  if (token == "0" || token == "\"\"" || token == "false") return {};
  return unsupported(key);
}

Status request_parameter(std::string_view key, ondemand::value value, InferHead& head) {
  if (key == "timeout") {
    TRY(once(head.timeout, key));
    head.timeout = infer_timeout(TRY(json_get(value.get_uint64(), key)));
    return {};
  }
  if (key == "priority") {
    TRY(once(head.priority, key));
    head.priority = TRY(json_get(value.get_uint64(), key));
    return {};
  }
  if (key == "binary_data_output") {
    head.default_form =
        TRY(json_get(value.get_bool(), key)) ? OutputForm::Binary : OutputForm::Json;
    return {};
  }
  if (key == "sequence_id" || key == "sequence_start" || key == "sequence_end") {
    return sequence_parameter(key, value);
  }
  return skip(value, key);
}

struct Seen {
  bool id = false;
  bool inputs = false;
  bool outputs = false;
  bool parameters = false;
};

Status first(bool& seen, std::string_view key) {
  if (std::exchange(seen, true)) return bad(fmt::format("'{}' is given twice", key));
  return {};
}

Status read_inputs(ondemand::value value, InferHead& head) {
  return for_each_element(value, "inputs", [&](ondemand::value element) -> Status {
    if (head.inputs.size() == kMaxTensors) return bad("too many inputs");
    HeadInput& input = head.inputs.emplace_back();
    return for_each_field(element, "inputs", [&](std::string_view key, auto field) {
      return input_field(key, field, input);
    });
  });
}

Status read_outputs(ondemand::value value, InferHead& head) {
  return for_each_element(value, "outputs", [&](ondemand::value element) -> Status {
    if (head.outputs.size() == kMaxTensors) return bad("too many outputs");
    head.outputs.push_back(TRY(read_output(element)));
    return {};
  });
}

Status request_field(std::string_view key, ondemand::value value, InferHead& head, Seen& seen) {
  if (key == "id") {
    TRY(first(seen.id, key));
    head.id = TRY(read_string(value, key));
    return {};
  }
  if (key == "inputs") {
    TRY(first(seen.inputs, key));
    return read_inputs(value, head);
  }
  if (key == "outputs") {
    TRY(first(seen.outputs, key));
    return read_outputs(value, head);
  }
  if (key == "parameters") {
    TRY(first(seen.parameters, key));
    return for_each_field(
        value, key, [&](std::string_view k, auto v) { return request_parameter(k, v, head); });
  }
  return skip(value, key);
}

}  // namespace

std::optional<Duration> infer_timeout(std::uint64_t microseconds) {
  constexpr std::uint64_t kLongest = 1'000'000ULL * 60 * 60 * 24 * 365;
  if (microseconds == 0) return std::nullopt;
  return Duration(std::chrono::microseconds(std::min(microseconds, kLongest)));
}

Result<InferHead> parse_infer_head(JsonParser& parser, std::string& text) {
  constexpr std::string_view kWhat = "the request";
  ondemand::document document = TRY(begin_document(parser, text));
  InferHead head;
  Seen seen;
  ondemand::object object = TRY(json_get(document.get_object(), kWhat));
  for (auto item : object) {
    ondemand::field field = TRY(json_get(std::move(item), kWhat));
    const std::string_view key = TRY(json_get(field.unescaped_key(), kWhat));
    TRY(request_field(key, field.value(), head, seen));
  }
  TRY(end_document(document));
  if (!seen.inputs) return bad("the request has no 'inputs'");
  return head;
}

}  // namespace mayfly
