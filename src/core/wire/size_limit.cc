#include "core/wire/size_limit.h"

#include <fmt/format.h>

#include "core/reason.h"

namespace mayfly {

std::unexpected<Error> refuse_size(std::string_view what, const SizeLimit& limit) {
  return refuse(reason::kTooLarge,
                fmt::format("{} exceeds {} bytes (setting {})", what, limit.bytes, limit.setting));
}

}  // namespace mayfly
