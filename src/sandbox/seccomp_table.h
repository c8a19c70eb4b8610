// The system calls a jail admits: the whole list, with the reason for each entry. What is not
// listed is answered EPERM; clone3 is answered ENOSYS, so that the C library falls back to clone,
// whose flags a filter can see; a call through a foreign entry (32-bit, x32) kills the process.
//
// EPERM rather than death for the unlisted: a library that probes for a feature must be able to go
// without it, and a hostile process gains nothing from being told no. Nothing legitimate uses a
// foreign entry, and its numbers mean other calls, so there the answer is SIGSYS.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>

#include "sandbox/jail_plan.h"

namespace mayfly {

class ProfileSet {
 public:
  constexpr ProfileSet(std::initializer_list<Profile> profiles) {
    for (const Profile profile : profiles) bits_ |= 1U << static_cast<unsigned>(profile);
  }
  constexpr bool has(Profile profile) const {
    return (bits_ >> static_cast<unsigned>(profile) & 1U) != 0;
  }

 private:
  unsigned bits_ = 0;
};

// Admitted only when (argument[index] & mask) == value. A zero mask admits every argument.
struct ArgumentRule {
  unsigned index = 0;
  std::uint64_t mask = 0;
  std::uint64_t value = 0;
};

// Rows with the same name are alternatives.
struct SyscallRule {
  std::string_view name;
  ProfileSet profiles;
  ArgumentRule argument;
  std::string_view reason;
};

std::span<const SyscallRule> seccomp_table();

// What the table says of a system-call number on this machine. Unfiltered: x86-64's uretprobe and
// uprobe, which the kernel (6.14, 6.18) answers before any filter; outside the trampoline that the
// kernel itself maps they do nothing but fail.
enum class Verdict : std::uint8_t {
  Denied,
  NotImplemented,
  Unfiltered,
  Allowed,
  AllowedByArgument
};
Verdict seccomp_verdict(Profile profile, int number);

}  // namespace mayfly
