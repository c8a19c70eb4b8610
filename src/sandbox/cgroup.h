// The control groups of a node:
//
//   own group / mayfly-NODE / VERSION / template     the template, its weights, jail init
//                                     / i-0, i-1 …   one instance each: a pool of ready groups
//             / mayfly-NODE-guests / JOB / …           what gets processors that nobody else wants
//
// Guests are beside the rest, not among it: weights count between siblings, and the server itself
// is a sibling of mayfly-NODE.
// CPU and process limits stand on VERSION and are inherited; memory is limited per instance. In v1
// the tree stands in each controller's hierarchy (template and i-K only in memory's); in v2 once.
// Where no controller may be used the same objects exist, limit nothing, and say so (`support()`).
//
// Owned by one thread. Groups are removed when their owner is destroyed; what a dead node of the
// same id left is killed and swept by `open`.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "sandbox/cgroup_support.h"

namespace mayfly {

struct VersionLimits {
  double cpus = 0;               // 0: not limited
  std::uint32_t cpu_weight = 0;  // against other versions' 100 where processors are short; 0: 100
  bool guest = false;            // processors only while nothing else of the machine wants them
  std::uint64_t processes = 0;   // 0: not limited
  Bytes instance_memory = {};    // per instance; 0: not limited
  Bytes template_memory = {};    // the template and the weights it reads; 0: not limited
};

// A borrowed group of the pool. `join` is open for writing: the instance, still of one thread,
// writes "0". -1 where memory is not limited.
struct MemorySlot {
  std::size_t index = 0;
  int join = -1;
};

class VersionCgroup {
 public:
  VersionCgroup(VersionCgroup&& other) noexcept;
  VersionCgroup& operator=(VersionCgroup&&) = delete;
  // Kills what is left and removes the groups.
  ~VersionCgroup();

  // What jail init joins, in this order. Borrowed: valid while this object lives.
  std::vector<int> template_joins() const;

  // Other limits from now on. Before the first instance.
  Status limit(const VersionLimits& limits);

  // A group whose figures start at zero. Grows the pool when none is free.
  Result<MemorySlot> acquire();
  // The instance has been reaped. Its group is used again once it is empty: a process that lingers
  // is killed, and the group is looked at again by later calls.
  void release(MemorySlot slot);
  std::size_t pool_size() const { return slots_.size(); }

  // Since the slot was acquired. nullopt where the kernel keeps no such figure.
  std::optional<Bytes> peak_memory(const MemorySlot& slot) const;
  std::optional<std::uint64_t> oom_kills(const MemorySlot& slot) const;
  // The same of the template's group, since it was made.
  std::optional<Bytes> template_peak_memory() const;
  std::optional<std::uint64_t> template_oom_kills() const;
  // Of every process of the version, ever.
  std::optional<Duration> cpu_total() const;

  // Every process of the version, jail init included.
  void kill_all();

 private:
  friend class NodeCgroups;
  struct Slot {
    Path group;
    Fd join;
    std::uint64_t oom_kills_before = 0;
    enum class State { Free, Used, Lingering } state = State::Free;
  };
  VersionCgroup(CgroupFs& fs, CgroupSupport support, Path name, VersionLimits limits);
  Status make();
  Status limit_v1();
  Status limit_unified();
  Status make_v1();
  Status make_unified();
  Status open_join(const Path& group);
  Result<std::size_t> add_slot();
  bool make_ready(Slot& slot);
  std::vector<Path> version_groups() const;
  std::optional<Path> memory_group() const;
  std::optional<Bytes> peak_of(const Path& group) const;
  std::optional<std::uint64_t> oom_count(const Path& group) const;

  CgroupFs* fs_;
  CgroupSupport support_;
  Path name_;  // mayfly-NODE/VERSION or mayfly-NODE-guests/JOB, below each own group
  VersionLimits limits_;
  std::vector<Fd> joins_;
  std::vector<Slot> slots_;
};

class NodeCgroups {
 public:
  // `fs` outlives this and every VersionCgroup made from it. `node` is unique on this machine.
  static Result<NodeCgroups> open(CgroupFs& fs, CgroupSupport support, std::string_view node);
  NodeCgroups(NodeCgroups&& other) noexcept;
  NodeCgroups& operator=(NodeCgroups&&) = delete;
  ~NodeCgroups();

  // `key` is a file name; each is used once at a time.
  Result<VersionCgroup> make_version(std::string_view key, const VersionLimits& limits);
  const CgroupSupport& support() const { return support_; }

 private:
  NodeCgroups(CgroupFs& fs, CgroupSupport support, Path name, Path guests)
      : fs_(&fs),
        support_(std::move(support)),
        name_(std::move(name)),
        guests_(std::move(guests)) {}

  CgroupFs* fs_;
  CgroupSupport support_;
  Path name_;
  Path guests_;
};

}  // namespace mayfly
