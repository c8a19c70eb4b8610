// What names and describes one prediction.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/rng.h"

namespace mayfly {

// Unique and time-ordered: a UUID version 7 (RFC 9562 §5.7). Made by the server, never taken from a
// client.
struct InvocationId {
  std::array<std::byte, 16> bytes{};
  auto operator<=>(const InvocationId&) const = default;
};

std::string to_string(const InvocationId& id);  // 36 characters, lower-case hexadecimal

// Makes ids that increase within one process even when the wall clock stands still or steps back:
// the 12 bits after the millisecond count up (RFC 9562 §6.2, method 1). Loop thread only.
class InvocationIds {
 public:
  InvocationIds(const Clock& clock, Rng& rng) : clock_(clock), rng_(rng) {}  // both outlive me
  InvocationId next();

 private:
  const Clock& clock_;
  Rng& rng_;
  std::uint64_t last_ = 0;  // milliseconds << 12 | counter
  // Random bits are drawn from the kernel 4 KiB at a time: a system call per invocation would show.
  std::array<std::byte, 4096> pool_{};
  std::size_t left_ = 0;
};

// How the instance that served a request came to be. Numbers stand in ledger records: append only.
enum class StartTier : std::uint8_t {
  Hot = 1,          // was idle
  Template = 2,     // forked from a template
  Cold = 3,         // the template was built first, from the compiled artifact
  Origin = 4,       // the artifact was fetched first
  None = 5,         // no instance served it: refused, timed out or gone before
  Environment = 6,  // as cold, but the packages of a Python function were imported already
};
std::string_view to_string(StartTier tier);

// Taken by the server, from outside the jail.
struct Timing {
  Duration queue{};   // accepted → handed to an instance (or to its start)
  Duration start{};   // → the instance begins to run; 0 when hot
  Duration run{};     // → its reply
  Duration cpu{};     // CPU time of the instance for this invocation
  Duration waited{};  // the part of `run` in which its function waited for those it called
};

}  // namespace mayfly
