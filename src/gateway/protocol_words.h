// Clients know errors by the wording of the server that they were written for; ours are put into
// those words where the request came that way.
#pragma once

#include <string_view>

#include "base/result.h"

namespace mayfly {

// unknown_function and unknown_version as Triton says them; anything else as it is.
Error in_protocol_words(Error error, std::string_view name, std::string_view version);
// The same as TensorFlow Serving says them.
Error in_tensorflow_words(Error error, std::string_view name, std::string_view version);

}  // namespace mayfly
