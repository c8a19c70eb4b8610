// What is told of the end of an event: the body of a webhook, and the payload of a function that is
// told instead. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "events/telling.h"
#include "store/work_queue.h"

namespace mayfly {

// A result that is JSON and not larger stands in the letter; of another the letter says where it
// can be fetched.
inline constexpr std::size_t kResultInLetter = std::size_t{64} * 1024;

// The same text for each attempt, as long as the result is there. `item` may have gone on since:
// what ended is the delivery's. `result` is the item's, unless it is larger than that or gone.
std::string webhook_letter(const Delivery& delivery, const WorkItem& item,
                           const std::optional<std::string>& result);

// What the reply to a webhook means.
Telling told_by(int status);

}  // namespace mayfly
