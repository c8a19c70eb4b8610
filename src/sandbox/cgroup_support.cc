#include "sandbox/cgroup_support.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace mayfly {
namespace {

constexpr std::string_view kServerGroup = "mayfly-server";

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = text.find(separator);
    const std::string_view part = text.substr(0, end);
    if (!part.empty()) parts.push_back(part);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return parts;
}

bool contains(const std::vector<std::string_view>& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

struct CgroupMount {
  std::string_view root;  // the group that the mount shows at its top
  std::string_view point;
  bool unified = false;
  std::vector<std::string_view> options;  // v1: names its controllers, among others
};

// proc(5): "36 35 98:0 /root /point options [optional…] - type source super-options"
std::optional<CgroupMount> parse_mount(std::string_view line) {
  const std::size_t dash = line.find(" - ");
  if (dash == std::string_view::npos) return std::nullopt;
  const auto before = split(line.substr(0, dash), ' ');
  const auto after = split(line.substr(dash + 3), ' ');
  if (before.size() < 6 || after.size() < 3) return std::nullopt;
  if (after[0] != "cgroup" && after[0] != "cgroup2") return std::nullopt;
  return CgroupMount{.root = before[3],
                     .point = before[4],
                     .unified = after[0] == "cgroup2",
                     .options = split(after[2], ',')};
}

// The path of `group` below the mount; none when the mount does not show it.
std::optional<Path> below(const CgroupMount& mount, std::string_view group) {
  if (mount.root != "/") {
    if (!group.starts_with(mount.root)) return std::nullopt;
    group.remove_prefix(mount.root.size());
  }
  while (group.starts_with('/')) group.remove_prefix(1);
  return group.empty() ? Path(mount.point) : Path(mount.point) / group;
}

// cgroups(7): "4:memory:/group" for v1, "0::/group" for v2
std::optional<CgroupHierarchy> find_hierarchy(std::string_view line,
                                              const std::vector<CgroupMount>& mounts) {
  const std::size_t first = line.find(':');
  const std::size_t second = line.find(':', first + 1);
  if (first == std::string_view::npos || second == std::string_view::npos) return std::nullopt;
  const std::string_view names = line.substr(first + 1, second - first - 1);
  const std::string_view group = line.substr(second + 1);
  const auto controllers = split(names, ',');
  for (const CgroupMount& mount : mounts) {
    if (mount.unified != names.empty()) continue;
    if (!names.empty() && !contains(mount.options, controllers.front())) continue;
    if (auto own = below(mount, group)) {
      return CgroupHierarchy{.unified = mount.unified,
                             .controllers = {controllers.begin(), controllers.end()},
                             .own = *std::move(own)};
    }
  }
  return std::nullopt;
}

bool can_make_groups(CgroupFs& fs, const Path& own, std::string_view name) {
  const Path probe = own / name;
  if (!fs.make(probe)) return false;
  return fs.remove(probe).has_value();
}

Status move_into_child(CgroupFs& fs, const Path& own) {
  const Path child = own / kServerGroup;
  TRY(fs.make(child));
  const std::string pids = TRY(fs.read(own / "cgroup.procs"));
  for (const std::string_view pid : split(pids, '\n')) {
    if (pid != "0") TRY(fs.write(child / "cgroup.procs", pid));
  }
  return {};
}

bool enable(CgroupFs& fs, const Path& own, std::string_view controller) {
  const auto available = fs.read(own / "cgroup.controllers");
  if (!available ||
      !contains(split(available->substr(0, available->find('\n')), ' '), controller)) {
    return false;
  }
  const std::string switch_on = fmt::format("+{}", controller);
  if (fs.write(own / "cgroup.subtree_control", switch_on)) return true;
  if (!move_into_child(fs, own)) return false;
  return fs.write(own / "cgroup.subtree_control", switch_on).has_value();
}

}  // namespace

std::vector<CgroupHierarchy> parse_hierarchies(std::string_view mountinfo,
                                               std::string_view membership) {
  std::vector<CgroupMount> mounts;
  for (const std::string_view line : split(mountinfo, '\n')) {
    if (auto mount = parse_mount(line)) mounts.push_back(*std::move(mount));
  }
  std::vector<CgroupHierarchy> hierarchies;
  for (const std::string_view line : split(membership, '\n')) {
    if (auto found = find_hierarchy(line, mounts)) hierarchies.push_back(*std::move(found));
  }
  return hierarchies;
}

CgroupSupport detect_cgroups(CgroupFs& fs, const std::vector<CgroupHierarchy>& hierarchies,
                             std::string_view probe_name) {
  CgroupSupport support;
  for (const CgroupHierarchy& hierarchy : hierarchies) {
    if (!can_make_groups(fs, hierarchy.own, probe_name)) continue;
    if (hierarchy.unified) {
      support.unified = hierarchy.own;
      support.unified_memory = enable(fs, hierarchy.own, "memory");
      support.unified_cpu = enable(fs, hierarchy.own, "cpu");
      support.unified_processes = enable(fs, hierarchy.own, "pids");
      continue;
    }
    const std::array<std::pair<std::string_view, std::optional<Path>*>, 4> places = {
        {{"memory", &support.memory},
         {"cpu", &support.cpu},
         {"cpuacct", &support.accounting},
         {"pids", &support.processes}}};
    for (const auto& [controller, place] : places) {
      if (std::ranges::find(hierarchy.controllers, controller) != hierarchy.controllers.end()) {
        *place = hierarchy.own;
      }
    }
  }
  // Beside v1 it would only count what is counted, and joining it takes 10 ms (cgroup_fs.cc).
  if (support.accounting && !support.unified_limits()) support.unified.reset();
  return support;
}

Result<CgroupSupport> detect_cgroups(CgroupFs& fs) {
  const std::string mountinfo = TRY(fs.read("/proc/self/mountinfo"));
  const std::string membership = TRY(fs.read("/proc/self/cgroup"));
  return detect_cgroups(fs, parse_hierarchies(mountinfo, membership),
                        fmt::format("mayfly-probe-{}", ::getpid()));
}

std::string CgroupSupport::describe() const {
  std::vector<std::string> limited;
  std::vector<std::string> missing;
  const auto add = [&](std::string_view name, bool v1, bool v2) {
    if (v1 || v2) {
      limited.push_back(fmt::format("{} ({})", name, v1 ? "v1" : "v2"));
    } else {
      missing.emplace_back(name);
    }
  };
  add("memory", memory.has_value(), unified_memory);
  add("CPU", cpu.has_value(), unified_cpu);
  add("processes", processes.has_value(), unified_processes);
  if (missing.empty()) return fmt::format("limits {}", fmt::join(limited, ", "));
  if (limited.empty()) return "no controller may be used here: nothing is limited";
  return fmt::format("limits {}; not {}", fmt::join(limited, ", "), fmt::join(missing, ", "));
}

}  // namespace mayfly
