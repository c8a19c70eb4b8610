// What a failing disk looks like to the rest of the node: everything that means "no room left"
// carries the reason storage_full, so that admission can refuse work before it is lost.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace mayfly {

// ENOSPC, EDQUOT and EFBIG (RLIMIT_FSIZE) become storage_full; other numbers keep their own code.
Error storage_error(std::string_view what, int error_number);
std::unexpected<Error> fail_storage(std::string_view what);  // of errno

// The same for a Status that came from base/: ResourceExhausted becomes storage_full. For writes
// only, where running out of anything means that the bytes cannot be kept.
Status as_storage(Status status);

}  // namespace mayfly
