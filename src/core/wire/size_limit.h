// A bound on something foreign, with the setting that moves it, so that a refusal can name both.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace mayfly {

struct SizeLimit {
  std::uint64_t bytes = 0;
  std::string_view setting;  // "max_body"; points to static storage
};

// The refusal (too_large, HTTP 413): "the request body exceeds 1048576 bytes (setting max_body)".
std::unexpected<Error> refuse_size(std::string_view what, const SizeLimit& limit);

}  // namespace mayfly
