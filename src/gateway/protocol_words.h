// The Open Inference Protocol's clients know errors by their wording; ours are put into those words
// where the request came that way.
#pragma once

#include <string_view>

#include "base/result.h"

namespace mayfly {

// unknown_function and unknown_version as Triton says them; anything else as it is.
Error in_protocol_words(Error error, std::string_view name, std::string_view version);

}  // namespace mayfly
