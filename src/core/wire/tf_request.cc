#include "core/wire/tf_request.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

#include "core/reason.h"
#include "core/wire/json_base64.h"
#include "core/wire/json_document.h"
#include "core/wire/json_input.h"
#include "core/wire/json_scanner.h"

namespace mayfly {
namespace {

constexpr std::string_view kInstances = "instances";
constexpr std::string_view kInputs = "inputs";

Result<Shape> nested_shape(const Shape& nesting, const TensorSpec& spec) {
  if (fits(nesting, spec)) return nesting;
  return refuse(reason::kInvalidInput, fmt::format("its values nest like {}, expected {}",
                                                   to_string(nesting), to_string(spec.shape)));
}

constexpr JsonInputStyle kTfStyle{.shape_of = nested_shape, .bytes = JsonBytes::TextOrBase64};

// Whether an object stands here whose keys are inputs, not {"b64":…}.
bool names_inputs(JsonScanner in, const Signature& signature) {
  if (in.peek() != '{') return false;
  return !begins_json_base64(in) || signature.input_index("b64").has_value();
}

// One body, read once. Inputs that come in rows are gathered into an array each and then take the
// body's place as the request's text: they are shorter than it was.
class TfBody {
 public:
  TfBody(InferRequest& request, const Signature& signature)
      : request_(request), signature_(signature) {}

  Status read(JsonParser& parser) {
    constexpr std::string_view kWhat = "the request";
    ondemand::document document = TRY(begin_document(parser, request_.text));
    TRY(for_each_field(document, kWhat, [this](std::string_view key, ondemand::value value) {
      return field(key, value);
    }));
    TRY(end_document(document));
    if (given_.empty()) {
      return refuse(reason::kBadRequest,
                    "give 'instances' (a list of rows) or 'inputs' (whole tensors)");
    }
    if (!arrays_.empty()) TRY(add_gathered());
    return check_complete(request_.inputs, signature_);
  }

 private:
  Status field(std::string_view key, ondemand::value value) {
    if (key == "signature_name") return check_signature_name(value);
    if (key != kInstances && key != kInputs) {
      TRY(skip_json_value(value, key));
      return {};
    }
    const std::string_view known = key == kInstances ? kInstances : kInputs;  // outlives the key
    if (given_ == known)
      return refuse(reason::kBadRequest, fmt::format("'{}' is given twice", known));
    if (!given_.empty()) {
      return refuse(reason::kBadRequest, "give either 'instances' or 'inputs', not both");
    }
    given_ = known;
    return key == kInstances ? read_rows(value) : read_columns(value);
  }

  static Status check_signature_name(ondemand::value value) {
    const std::string_view name = TRY(json_get(value.get_string(), "signature_name"));
    if (name.empty() || name == "serving_default") return {};
    return refuse(reason::kInvalidInput,
                  fmt::format("signature_name '{}' is not served; a function has one signature, "
                              "'serving_default'",
                              name.substr(0, 100)));
  }

  // ---- Rows ----

  Status read_rows(ondemand::value value) {
    JsonScanner ahead(rest_of_text(value));
    if (!ahead.take('[')) return refuse(reason::kBadRequest, "'instances' is not a list");
    if (ahead.peek() == ']') return refuse(reason::kInvalidInput, "'instances' is empty");
    TRY(check_rows_stack());
    if (names_inputs(ahead, signature_)) return read_named_rows(value);
    TRY(check_one_input(signature_));
    const std::string_view text = TRY(skip_json_value(value, kInstances));
    TRY(add_json_input(request_, signature_, 0, text, kTfStyle));
    request_.instances = static_cast<std::uint64_t>(request_.inputs.front().shape.front());
    return {};
  }

  // The text from a value on: it is parsed in place.
  std::string_view rest_of_text(ondemand::value value) const {
    const auto begin = value.raw_json_token().data() - request_.text.data();
    return std::string_view(request_.text).substr(static_cast<std::size_t>(begin));
  }

  Status check_rows_stack() const {
    for (const TensorSpec& spec : signature_.inputs) {
      if (!spec.shape.empty()) continue;
      return refuse_input(spec.name, "has no dimension to stack instances along; use 'inputs'");
    }
    return {};
  }

  Status read_named_rows(ondemand::value value) {
    arrays_.resize(signature_.inputs.size());
    given_in_row_.resize(signature_.inputs.size());
    std::uint64_t row = 0;
    TRY(for_each_element(value, kInstances, [&](ondemand::value instance) -> Status {
      const Status read = read_named_row(instance);
      if (!read) return std::unexpected(read.error().in(fmt::format("instance {}", row)));
      ++row;
      return {};
    }));
    for (std::string& array : arrays_) array.back() = ']';  // after the last value stands a comma
    request_.instances = row;
    return {};
  }

  Status read_named_row(ondemand::value instance) {
    if (!names_inputs(JsonScanner(rest_of_text(instance)), signature_)) {
      return refuse(reason::kInvalidInput, "is no object of inputs like the first");
    }
    given_in_row_.assign(given_in_row_.size(), false);
    TRY(for_each_field(
        instance, "an instance",
        [this](std::string_view key, ondemand::value value) { return gather(key, value); }));
    for (std::size_t i = 0; i < given_in_row_.size(); ++i) {
      if (!given_in_row_[i]) return refuse_input(signature_.inputs[i].name, "is missing");
    }
    return {};
  }

  Status gather(std::string_view key, ondemand::value value) {
    const std::size_t index = TRY(find_input(signature_, key));
    if (given_in_row_[index]) return refuse_input(key, "is given twice");
    given_in_row_[index] = true;
    std::string& array = arrays_[index];
    array += array.empty() ? "[" : "";
    array += TRY(skip_json_value(value, key));
    array += ',';
    return {};
  }

  Status add_gathered() {
    request_.text.clear();  // stays on the heap: views into it outlive moves of the request
    for (const std::string& array : arrays_) request_.text += array;
    std::string_view rest = request_.text;
    for (std::size_t i = 0; i < arrays_.size(); ++i) {
      const std::string_view text = rest.substr(0, arrays_[i].size());
      rest.remove_prefix(text.size());
      TRY(add_json_input(request_, signature_, i, text, kTfStyle));
      // What is passed over is not checked: a "value" may be a comma.
      if (static_cast<std::uint64_t>(request_.inputs.back().shape.front()) != request_.instances)
        return refuse_input(signature_.inputs[i].name, "the value of an instance is malformed");
    }
    return {};
  }

  // ---- Columns ----

  Status read_columns(ondemand::value value) {
    if (!names_inputs(JsonScanner(rest_of_text(value)), signature_)) {
      TRY(check_one_input(signature_));
      const std::string_view text = TRY(skip_json_value(value, kInputs));
      return add_json_input(request_, signature_, 0, text, kTfStyle);
    }
    return for_each_field(value, kInputs,
                          [this](std::string_view key, ondemand::value column) -> Status {
                            const std::size_t index = TRY(find_input(signature_, key));
                            const std::string_view text = TRY(skip_json_value(column, key));
                            return add_json_input(request_, signature_, index, text, kTfStyle);
                          });
  }

  InferRequest& request_;
  const Signature& signature_;
  std::string_view given_;           // kInstances or kInputs, once one was there
  std::vector<std::string> arrays_;  // of the inputs, where rows name them
  std::vector<bool> given_in_row_;
};

}  // namespace

Result<InferRequest> decode_tf_request(JsonParser& parser, std::string body,
                                       const Signature& signature, const SizeLimit& limit) {
  InferRequest request;
  request.text = std::move(body);
  if (request.text.size() > limit.bytes) return refuse_size("the body", limit);
  TRY(TfBody(request, signature).read(parser));
  for (std::uint32_t i = 0; i < signature.outputs.size(); ++i) request.outputs.push_back({i});
  return request;
}

}  // namespace mayfly
