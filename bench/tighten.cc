// What an instance does to itself before its first request: joins its memory group, closes every
// descriptor that is not its own, installs the smaller system-call filter. Each of N forks does it
// once and times it.
//
//   tighten --count N [--group FILE]     FILE: cgroup.procs of a memory group
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>

#include "sandbox/jail.h"
#include "sandbox/seccomp.h"
#include "tool.h"

namespace mayfly::bench {
namespace {

constexpr int kExtraDescriptors = 4;  // what a template has open beside what an instance keeps

[[noreturn]] void tighten_once(const SeccompFilters& filters, int group, int out) {
  const std::span groups(&group, group < 0 ? 0 : 1);
  const double begin = now_us();
  const Status tight = tighten_instance(
      {.profile = Profile::Instance, .cgroups = groups, .keep = std::span(&out, 1)}, filters);
  const double took = now_us() - begin;
  if (!tight) ::_exit(1);
  write_exactly(out, std::as_bytes(std::span(&took, 1)));
  ::_exit(0);
}

Report measure(const Arguments& arguments) {
  const auto filters = SeccompFilters::compile();
  require(filters.has_value(), "the filters cannot be compiled");
  require_call(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
  int group = -1;
  if (arguments.has("group")) {
    group = ::open(arguments.text("group").c_str(), O_WRONLY | O_CLOEXEC);
    require_call(group >= 0, arguments.text("group"));
  }
  std::array<int, 2> ends{};
  require_call(::pipe2(ends.data(), O_CLOEXEC) == 0, "pipe");
  for (int i = 0; i < kExtraDescriptors; ++i) require_call(::dup(ends[0]) >= 0, "dup");

  Report report;
  report.samples_us.resize(arguments.number("count", 1));
  for (double& sample : report.samples_us) {
    const pid_t child = ::fork();
    require_call(child >= 0, "fork");
    if (child == 0) tighten_once(*filters, group, ends[1]);
    int status = 0;
    require_call(::waitpid(child, &status, 0) == child && status == 0, "tighten");
    require(read_exactly(ends[0], std::as_writable_bytes(std::span(&sample, 1))), "no figure");
  }
  return report;
}

}  // namespace
}  // namespace mayfly::bench

int main(int argc, char** argv) {
  using namespace mayfly::bench;
  print(measure(Arguments(argc, argv, 1)));
}
