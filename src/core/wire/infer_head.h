// An infer request as it is written, before anything is compared with a signature: from the JSON
// part of a body, or from another form of the same protocol that carries its tensors in binary.
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
  std::optional<SharedRange> shared = {};
};

inline constexpr std::uint64_t kMostClasses = 1000;

struct HeadOutput {
  std::string_view name;
  std::optional<OutputForm> form;
  std::uint64_t classes = 0;  // parameters.classification
  std::optional<SharedRange> shared = {};
};

struct InferHead {
  std::string id;
  std::optional<Duration> timeout;
  std::optional<std::uint64_t> priority;  // parameters.priority
  OutputForm default_form = OutputForm::Json;
  std::vector<HeadInput> inputs;
  std::vector<HeadOutput> outputs;
};

// Unknown keys and parameters are passed over, as the protocol wants; a key that is given twice is
// refused. What the protocol has and this server does not (sequences) is refused as unsupported.
Result<InferHead> parse_infer_head(JsonParser& parser, std::string& text);

// parameters.timeout; nullopt for 0: the client sets none.
std::optional<Duration> infer_timeout(std::uint64_t microseconds);

// The request that a head without JSON data makes: every input's bytes are announced in
// `binary_size` and follow in the head's order. `limit` bounds all of them.
Result<InferRequest> bind_infer_request(InferHead& head, const Signature& signature,
                                        const SizeLimit& limit);

}  // namespace mayfly
