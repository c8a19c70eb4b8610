#include "sandbox/cgroup.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace mayfly {
namespace {

constexpr auto kCpuPeriod = std::chrono::microseconds(100'000);
// What a group has when nothing is said: in v2, and the same in v1.
constexpr std::uint32_t kDefaultWeight = 100;
constexpr std::uint32_t kDefaultShares = 1024;
// Killed processes leave their group when they are reaped, which their parent may take a moment
// for.
constexpr int kRemovalAttempts = 200;
// What a node that was killed left takes as long as the machine needs to end it, and nothing else
// waits yet: 10 s.
constexpr int kSweepAttempts = 5000;
// Page cache and kernel memory stay charged to a group after its processes are gone. Less than this
// is not worth the reclaim.
constexpr Bytes kWorthReclaiming = mib(1);

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> read_number(CgroupFs& fs, const Path& file) {
  const auto text = fs.read(file);
  if (!text) return std::nullopt;
  return parse_number(*text);
}

// "key value" lines, as in memory.events and cpu.stat.
std::optional<std::uint64_t> read_field(CgroupFs& fs, const Path& file, std::string_view key) {
  const auto text = fs.read(file);
  if (!text) return std::nullopt;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    if (line.starts_with(key) && line.size() > key.size() && line[key.size()] == ' ') {
      return parse_number(line.substr(key.size() + 1));
    }
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
  }
  return std::nullopt;
}

std::vector<pid_t> processes_in(CgroupFs& fs, const Path& group) {
  std::vector<pid_t> pids;
  const auto text = fs.read(group / "cgroup.procs");
  if (!text) return pids;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    // 0: a process of another pid namespace, which cannot be named from here
    if (const auto pid = parse_number(line); pid && *pid > 0)
      pids.push_back(static_cast<pid_t>(*pid));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
  }
  return pids;
}

void kill_in(CgroupFs& fs, const Path& group) {
  if (fs.exists(group / "cgroup.kill") && fs.write(group / "cgroup.kill", "1")) return;
  for (const std::string& child : fs.children(group)) kill_in(fs, group / child);
  for (const pid_t pid : processes_in(fs, group)) fs.kill(pid);
}

Status remove_once(CgroupFs& fs, const Path& group) {
  for (const std::string& child : fs.children(group)) TRY(remove_once(fs, group / child));
  return fs.remove(group);
}

Status remove_tree(CgroupFs& fs, const Path& group, int attempts) {
  Status removed;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    if (!fs.exists(group)) return {};
    removed = remove_once(fs, group);
    if (removed) return {};
    kill_in(fs, group);
    fs.wait_briefly();
  }
  return removed;
}

std::vector<Path> places_of(const CgroupSupport& support) {
  std::vector<Path> places;
  for (const auto* place :
       {&support.memory, &support.cpu, &support.accounting, &support.processes, &support.unified}) {
    if (!place->has_value()) continue;
    if (std::ranges::find(places, **place) == places.end()) places.push_back(**place);
  }
  return places;
}

void remove_everywhere(CgroupFs& fs, const CgroupSupport& support, const Path& name) {
  for (const Path& place : places_of(support)) {
    if (const Status removed = remove_tree(fs, place / name, kRemovalAttempts); !removed) {
      LOG(warn, "cgroup not removed", {"error", removed.error().message});
    }
  }
}

// v2 hands a controller down only where it is switched on, level by level.
void hand_down(CgroupFs& fs, const CgroupSupport& support, const Path& group) {
  const Path control = group / "cgroup.subtree_control";
  for (const auto& [on, word] :
       {std::pair{support.unified_memory, "+memory"}, std::pair{support.unified_cpu, "+cpu"},
        std::pair{support.unified_processes, "+pids"}}) {
    if (!on) continue;
    if (const Status done = fs.write(control, word); !done) {
      LOG(warn, "cgroup controller not handed down", {"error", done.error().message});
    }
  }
}

// The least weight there is, and SCHED_IDLE for the group as a whole where the kernel knows it
// (5.15).
Status make_idle(CgroupFs& fs, const CgroupSupport& support, const Path& guests) {
  Path group;
  if (support.cpu) {
    group = *support.cpu / guests;
    TRY(fs.write(group / "cpu.shares", "2"));
  } else if (support.unified_cpu) {
    group = *support.unified / guests;
    TRY(fs.write(group / "cpu.weight", "1"));
  } else {
    return {};
  }
  return fs.exists(group / "cpu.idle") ? fs.write(group / "cpu.idle", "1") : Status{};
}

std::string cpu_quota(double cpus) {
  const auto period = static_cast<double>(kCpuPeriod.count());
  return fmt::format("{}", static_cast<std::int64_t>(cpus * period));
}

Status limit_memory(CgroupFs& fs, const CgroupSupport& support, const Path& group, Bytes limit) {
  if (limit.count == 0) return {};
  const std::string text = fmt::format("{}", limit.count);
  if (support.memory) {
    // With swap accounting the sum is limited too, else what is over the limit moves to swap. The
    // sum is never below the limit: it goes first when a limit is raised, and last when it is
    // lowered.
    const Path sum = group / "memory.memsw.limit_in_bytes";
    if (!fs.exists(sum)) return fs.write(group / "memory.limit_in_bytes", text);
    const bool lowered = fs.write(group / "memory.limit_in_bytes", text).has_value();
    TRY(fs.write(sum, text));
    return lowered ? Status{} : fs.write(group / "memory.limit_in_bytes", text);
  }
  TRY(fs.write(group / "memory.max", text));
  // One out-of-memory kill ends the group: there is no half of an instance.
  if (fs.exists(group / "memory.oom.group")) TRY(fs.write(group / "memory.oom.group", "1"));
  const Path swap = group / "memory.swap.max";
  return fs.exists(swap) ? fs.write(swap, "0") : Status{};
}

}  // namespace

VersionCgroup::VersionCgroup(CgroupFs& fs, CgroupSupport support, Path name, VersionLimits limits)
    : fs_(&fs), support_(std::move(support)), name_(std::move(name)), limits_(limits) {}

VersionCgroup::VersionCgroup(VersionCgroup&& other) noexcept
    : fs_(std::exchange(other.fs_, nullptr)),
      support_(std::move(other.support_)),
      name_(std::move(other.name_)),
      limits_(other.limits_),
      joins_(std::move(other.joins_)),
      slots_(std::move(other.slots_)) {}

VersionCgroup::~VersionCgroup() {
  if (fs_ == nullptr) return;
  kill_all();
  remove_everywhere(*fs_, support_, name_);
}

std::vector<Path> VersionCgroup::version_groups() const {
  std::vector<Path> groups = places_of(support_);
  for (Path& group : groups) group /= name_;
  return groups;
}

std::optional<Path> VersionCgroup::memory_group() const {
  if (support_.memory) return *support_.memory / name_;
  if (support_.unified_memory) return *support_.unified / name_;
  return std::nullopt;
}

Status VersionCgroup::open_join(const Path& group) {
  joins_.push_back(TRY(fs_->open_for_joining(group)));
  return {};
}

Status VersionCgroup::make() {
  for (const Path& group : version_groups()) TRY(fs_->make(group));
  TRY(make_v1());
  return make_unified();
}

Status VersionCgroup::limit(const VersionLimits& limits) {
  CHECK(slots_.empty());
  limits_ = limits;
  if (limits_.cpu_weight == 0) limits_.cpu_weight = kDefaultWeight;
  TRY(limit_v1());
  if (support_.memory)
    TRY(limit_memory(*fs_, support_, *support_.memory / name_ / "template",
                     limits_.template_memory));
  if (!support_.unified) return {};
  TRY(limit_unified());
  if (!support_.unified_memory) return {};
  const Path group = *support_.unified / name_ / "template";
  return limit_memory(*fs_, support_, group, limits_.template_memory);
}

Status VersionCgroup::limit_v1() {
  if (support_.cpu && limits_.cpus > 0) {
    const Path group = *support_.cpu / name_;
    TRY(fs_->write(group / "cpu.cfs_period_us", fmt::format("{}", kCpuPeriod.count())));
    TRY(fs_->write(group / "cpu.cfs_quota_us", cpu_quota(limits_.cpus)));
  }
  if (support_.cpu && limits_.cpu_weight > 0) {
    const std::uint32_t shares = limits_.cpu_weight * kDefaultShares / kDefaultWeight;
    TRY(fs_->write(*support_.cpu / name_ / "cpu.shares", fmt::format("{}", shares)));
  }
  if (support_.processes && limits_.processes > 0) {
    TRY(fs_->write(*support_.processes / name_ / "pids.max", fmt::format("{}", limits_.processes)));
  }
  return {};
}

Status VersionCgroup::make_v1() {
  TRY(limit_v1());
  if (support_.memory) {
    const Path group = *support_.memory / name_ / "template";
    TRY(fs_->make(group));
    TRY(limit_memory(*fs_, support_, group, limits_.template_memory));
  }
  for (const Path& place : places_of(support_)) {
    if (place == support_.unified) continue;
    TRY(open_join(place == support_.memory ? place / name_ / "template" : place / name_));
  }
  return {};
}

Status VersionCgroup::limit_unified() {
  const Path group = *support_.unified / name_;
  if (support_.unified_cpu && limits_.cpus > 0) {
    const std::string quota = fmt::format("{} {}", cpu_quota(limits_.cpus), kCpuPeriod.count());
    TRY(fs_->write(group / "cpu.max", quota));
  }
  if (support_.unified_cpu && limits_.cpu_weight > 0) {
    TRY(fs_->write(group / "cpu.weight", fmt::format("{}", limits_.cpu_weight)));
  }
  if (support_.unified_processes && limits_.processes > 0) {
    TRY(fs_->write(group / "pids.max", fmt::format("{}", limits_.processes)));
  }
  return {};
}

Status VersionCgroup::make_unified() {
  if (!support_.unified) return {};
  const Path group = *support_.unified / name_;
  TRY(limit_unified());
  if (!support_.unified_memory) return open_join(group);
  // Only memory is told apart below the version; a group with controllers holds no process itself.
  TRY(fs_->write(group / "cgroup.subtree_control", "+memory"));
  TRY(fs_->make(group / "template"));
  TRY(limit_memory(*fs_, support_, group / "template", limits_.template_memory));
  return open_join(group / "template");
}

std::vector<int> VersionCgroup::template_joins() const {
  std::vector<int> joins;
  for (const Fd& join : joins_) joins.push_back(join.get());
  return joins;
}

Result<std::size_t> VersionCgroup::add_slot() {
  const Path group = *memory_group() / fmt::format("i-{}", slots_.size());
  TRY(fs_->make(group));
  TRY(limit_memory(*fs_, support_, group, limits_.instance_memory));
  Fd join = TRY(fs_->open_for_joining(group));
  slots_.push_back({.group = group, .join = std::move(join)});
  return slots_.size() - 1;
}

Result<MemorySlot> VersionCgroup::acquire() {
  if (!memory_group()) return MemorySlot{};
  for (Slot& slot : slots_) {
    if (slot.state == Slot::State::Lingering && make_ready(slot)) slot.state = Slot::State::Free;
  }
  const auto free = std::ranges::find(slots_, Slot::State::Free, &Slot::state);
  const std::size_t index =
      free != slots_.end() ? static_cast<std::size_t>(free - slots_.begin()) : TRY(add_slot());
  Slot& slot = slots_.at(index);
  slot.state = Slot::State::Used;
  slot.oom_kills_before = oom_count(slot.group).value_or(0);
  return MemorySlot{.index = index, .join = slot.join.get()};
}

void VersionCgroup::release(MemorySlot slot) {
  if (slot.join < 0) return;
  Slot& used = slots_.at(slot.index);
  used.state = make_ready(used) ? Slot::State::Free : Slot::State::Lingering;
}

// Empty, with little memory charged, and a peak that starts anew.
bool VersionCgroup::make_ready(Slot& slot) {
  const std::vector<pid_t> left = processes_in(*fs_, slot.group);
  for (const pid_t pid : left) fs_->kill(pid);
  if (!left.empty()) return false;
  const bool v1 = support_.memory.has_value();
  const auto usage =
      read_number(*fs_, slot.group / (v1 ? "memory.usage_in_bytes" : "memory.current"));
  if (usage && *usage > kWorthReclaiming.count) {
    // Best effort: what cannot be reclaimed counts towards the next instance's limit.
    (void)(v1 ? fs_->write(slot.group / "memory.force_empty", "0")
              : fs_->write(slot.group / "memory.reclaim", fmt::format("{}", *usage)));
  }
  if (v1) return fs_->write(slot.group / "memory.max_usage_in_bytes", "0").has_value();
  // v2's memory.peak belongs to the group's life (a reset counts only for the descriptor that wrote
  // it), so the group is made anew: 25 µs, off the path of a start.
  slot.join.reset();
  if (!fs_->remove(slot.group) || !fs_->make(slot.group)) return false;
  if (!limit_memory(*fs_, support_, slot.group, limits_.instance_memory)) return false;
  auto join = fs_->open_for_joining(slot.group);
  if (!join) return false;
  slot.join = *std::move(join);
  return true;
}

std::optional<Bytes> VersionCgroup::peak_memory(const MemorySlot& slot) const {
  if (slot.join < 0) return std::nullopt;
  return peak_of(slots_.at(slot.index).group);
}

std::optional<Bytes> VersionCgroup::template_peak_memory() const {
  const auto group = memory_group();
  return group ? peak_of(*group / "template") : std::nullopt;
}

std::optional<std::uint64_t> VersionCgroup::template_oom_kills() const {
  const auto group = memory_group();
  return group ? oom_count(*group / "template") : std::nullopt;
}

std::optional<Bytes> VersionCgroup::peak_of(const Path& group) const {
  const bool v1 = support_.memory.has_value();
  const auto peak = read_number(*fs_, group / (v1 ? "memory.max_usage_in_bytes" : "memory.peak"));
  if (!peak) return std::nullopt;
  return Bytes{*peak};
}

std::optional<std::uint64_t> VersionCgroup::oom_count(const Path& group) const {
  const bool v1 = support_.memory.has_value();
  return read_field(*fs_, group / (v1 ? "memory.oom_control" : "memory.events"), "oom_kill");
}

std::optional<std::uint64_t> VersionCgroup::oom_kills(const MemorySlot& slot) const {
  if (slot.join < 0) return std::nullopt;
  const Slot& used = slots_.at(slot.index);
  const auto count = oom_count(used.group);
  if (!count) return std::nullopt;
  return *count - std::min(*count, used.oom_kills_before);
}

std::optional<Duration> VersionCgroup::cpu_total() const {
  if (support_.accounting) {
    const auto spent = read_number(*fs_, *support_.accounting / name_ / "cpuacct.usage");
    if (spent) return std::chrono::nanoseconds(*spent);
  }
  if (support_.unified) {
    // cpu.stat's usage is kept for every v2 group, with or without the cpu controller.
    const auto spent = read_field(*fs_, *support_.unified / name_ / "cpu.stat", "usage_usec");
    if (spent) return std::chrono::microseconds(*spent);
  }
  return std::nullopt;
}

void VersionCgroup::kill_all() {
  for (const Path& group : version_groups()) kill_in(*fs_, group);
}

Result<NodeCgroups> NodeCgroups::open(CgroupFs& fs, CgroupSupport support, std::string_view node) {
  const Path name = fmt::format("mayfly-{}", node);
  const Path guests = fmt::format("mayfly-{}-guests", node);
  for (const Path& group : {name, guests}) {
    for (const Path& place : places_of(support)) {
      TRY(remove_tree(fs, place / group, kSweepAttempts));
      TRY(fs.make(place / group));
    }
    if (support.unified) hand_down(fs, support, *support.unified / group);
  }
  TRY(make_idle(fs, support, guests));
  return NodeCgroups(fs, std::move(support), name, guests);
}

NodeCgroups::NodeCgroups(NodeCgroups&& other) noexcept
    : fs_(std::exchange(other.fs_, nullptr)),
      support_(std::move(other.support_)),
      name_(std::move(other.name_)),
      guests_(std::move(other.guests_)) {}

NodeCgroups::~NodeCgroups() {
  if (fs_ == nullptr) return;
  remove_everywhere(*fs_, support_, name_);
  remove_everywhere(*fs_, support_, guests_);
}

Result<VersionCgroup> NodeCgroups::make_version(std::string_view key, const VersionLimits& limits) {
  VersionCgroup version(*fs_, support_, (limits.guest ? guests_ : name_) / key, limits);
  if (Status made = version.make(); !made) {
    return std::unexpected(std::move(made).error().in(fmt::format("control groups of {}", key)));
  }
  return version;
}

}  // namespace mayfly
