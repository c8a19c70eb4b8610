// The JSON part of an infer request as it is written, before anything is compared with a
// signature. Internal to this folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "core/tensor.h"
#include "core/wire/infer_request.h"
#include "core/wire/json_parser.h"

namespace mayfly {

// The views live as long as the text and until the parser's next document.
struct HeadInput {
  std::optional<std::string_view> name;
  std::optional<std::string_view> datatype;
  std::optional<Shape> shape;
  std::optional<std::string_view> data;  // the array's text
  std::optional<std::uint64_t> binary_size;
};

struct HeadOutput {
  std::string_view name;
  std::optional<OutputForm> form;
};

struct InferHead {
  std::string id;
  std::optional<Duration> timeout;
  OutputForm default_form = OutputForm::Json;
  std::vector<HeadInput> inputs;
  std::vector<HeadOutput> outputs;
};

// Unknown keys and parameters are passed over, as the protocol wants; a key that is given twice is
// refused. What the protocol has and this server does not (sequences, classification, shared
// memory) is refused as unsupported.
Result<InferHead> parse_infer_head(JsonParser& parser, std::string& text);

}  // namespace mayfly
