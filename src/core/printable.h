// Text that came from outside, as it may be shown on a terminal or written to a log.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mayfly {

// At most `limit` bytes of it. Control characters but tabs are replaced by '?', C1 ones (U+0080 to
// U+009F, as UTF-8) included: some terminals obey them.
std::string printable(std::string_view text, std::size_t limit);

}  // namespace mayfly
