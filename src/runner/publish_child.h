// Work that may crash, hang or eat memory, in a process of its own: whatever it does to itself is a
// value to the caller.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace mayfly {

// What the child tells: each line restarts the clock.
using ChildSay = std::function<void(std::string_view line)>;

struct ChildLimits {
  Duration first;  // until the first line, or the end
  Duration next;   // after each line
  // How the child is made: fork(), or as a template makes its instances, without the handlers that
  // libraries hang on fork().
  enum class Birth : std::uint8_t { Fork, Clone } birth = Birth::Fork;
};

// Forks; the child runs `work` and leaves by _exit. Its lines, each with at most kMaxChildLine
// bytes and no newline. An error when it was killed, for whatever reason, or took too long: the
// message says how, for a sentence that begins with what it did ("crashed (SIGSEGV)"). An Error
// returned by `work` comes back as it is, with reason `publish_failed` when it had none.
inline constexpr std::size_t kMaxChildLine = 256 * 1024;
Result<std::vector<std::string>> run_in_child(const ChildLimits& limits,
                                              const std::function<Status(const ChildSay&)>& work);

}  // namespace mayfly
