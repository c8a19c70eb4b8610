// Where this process may make control groups, and what they can do: v2 with delegated controllers,
// v1 controllers, or both at once (v1 controllers beside a v2 tree whose groups can only be killed
// and frozen). Groups are made below the server's own, so that limits set on the server hold.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sandbox/cgroup_fs.h"

namespace mayfly {

struct CgroupHierarchy {
  bool unified = false;                  // v2
  std::vector<std::string> controllers;  // v1: "memory", "cpu", "cpuacct", …
  Path own;                              // this process's group
};

// From the text of /proc/self/mountinfo and /proc/self/cgroup. Hierarchies that are not mounted, or
// whose mount does not show this process's group, are left out.
std::vector<CgroupHierarchy> parse_hierarchies(std::string_view mountinfo,
                                               std::string_view membership);

// One folder per resource; several may be the same. Absent: no such limit or figure here.
struct CgroupSupport {
  std::optional<Path> memory;      // v1 memory
  std::optional<Path> cpu;         // v1 cpu
  std::optional<Path> accounting;  // v1 cpuacct
  std::optional<Path> processes;   // v1 pids
  std::optional<Path> unified;     // v2, where it limits or counts what v1 does not
  bool unified_memory = false;
  bool unified_cpu = false;
  bool unified_processes = false;

  bool unified_limits() const { return unified_memory || unified_cpu || unified_processes; }
  bool limits_memory() const { return memory.has_value() || unified_memory; }
  bool limits_cpu() const { return cpu.has_value() || unified_cpu; }
  bool limits_processes() const { return processes.has_value() || unified_processes; }
  // One line for people: what is limited, by which version; what is missing.
  std::string describe() const;
};

// Asks by making and removing a group of `probe_name` in each. In a delegated v2 tree it moves the
// processes of the own group into its child "mayfly-server" first, because a v2 group holds either
// processes or groups with controllers.
CgroupSupport detect_cgroups(CgroupFs& fs, const std::vector<CgroupHierarchy>& hierarchies,
                             std::string_view probe_name);
// The same for this process.
Result<CgroupSupport> detect_cgroups(CgroupFs& fs);

}  // namespace mayfly
