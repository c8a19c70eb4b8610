// Filters compiled from the table. Compiling takes libseccomp, a memfd and allocations, so it
// happens once, in the blank or at start; installing is one system call and allocates nothing, so
// that it can stand on the path of an instance's start.
#pragma once

#include <linux/filter.h>

#include <array>
#include <vector>

#include "base/result.h"
#include "sandbox/jail_plan.h"

namespace mayfly {

using SeccompProgram = std::vector<sock_filter>;

Result<SeccompProgram> compile_seccomp(Profile profile);

// For this thread and all it creates, for ever. Needs no_new_privs or CAP_SYS_ADMIN.
Status install_seccomp(const SeccompProgram& program);

// The programs of every profile.
class SeccompFilters {
 public:
  static Result<SeccompFilters> compile();
  const SeccompProgram& of(Profile profile) const {
    return programs_.at(static_cast<std::size_t>(profile));
  }

 private:
  SeccompFilters() = default;
  std::array<SeccompProgram, kProfileCount> programs_;
};

}  // namespace mayfly
