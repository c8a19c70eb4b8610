// What a jail is made of, as a value. The server writes a plan, the blank makes the jail from it
// (sandbox/jail.h). A plan from `full_plan` or from the wire always has every layer: the layers
// have no place in the encoding and no setter; only tests, through JailPlanSurgeon, make a plan
// that lacks one, to prove that the layer is what contains the probe.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly {

enum class Layer : std::uint8_t {
  UserNs,        // a user namespace, and in it an id that owns nothing outside
  PidNs,         // other processes cannot be named
  MountNs,       // an empty root with the plan's mounts
  NetNs,         // no interface, not even a configured loopback, but of a TrainingGroup
  IpcNs,         // no System V objects, no POSIX message queues of the host
  UtsNs,         // a constant host name
  NoNewPrivs,    // set-user-id and file capabilities do nothing
  Undumpable,    // processes of the same id cannot be attached to or read
  Seccomp,       // the allow-list of sandbox/seccomp_table.h
  Landlock,      // files only beneath the plan's mounts; no TCP, no foreign signals where known
  Rlimits,       // descriptors, processes, file sizes, locked memory
  Capabilities,  // none, and none to be gained
  Cgroup,        // memory, CPU and process limits
};
inline constexpr std::size_t kLayerCount = 13;
std::string_view to_string(Layer layer);

class LayerSet {
 public:
  static constexpr LayerSet all() { return LayerSet((1U << kLayerCount) - 1); }
  constexpr bool has(Layer layer) const {
    return (bits_ >> static_cast<unsigned>(layer) & 1U) != 0;
  }
  constexpr LayerSet without(Layer layer) const {
    return LayerSet(bits_ & ~(1U << static_cast<unsigned>(layer)));
  }
  constexpr bool operator==(const LayerSet&) const = default;

 private:
  explicit constexpr LayerSet(unsigned bits) : bits_(bits) {}
  unsigned bits_;
};

// Which system-call filter a process lives under. A jail is made as Template or Publish, or as
// their kin for Python; the instances' profiles tighten what they inherit from the template they
// are cloned from. Python's differ in what an interpreter needs: code mapped from files, a few
// files of its own in memory, threads. PythonBuild (packages from their sources) and PythonTraining
// (the run() of a job) may also start programs, those that their mounts show as such. Processes of
// a TrainingGroup speak with each other over a loopback that is their jail's own.
enum class Profile : std::uint8_t {
  Template,
  Instance,
  ThreadedInstance,
  Publish,
  PythonTemplate,
  PythonInstance,
  PythonPublish,
  PythonBuild,
  PythonTraining,
  TrainingGroup,
};
inline constexpr std::size_t kProfileCount = 10;
std::string_view to_string(Profile profile);
bool is_python(Profile profile);
bool starts_programs(Profile profile);
// The job runs and ends: it is no template.
bool is_job(Profile profile);
// It has TCP, within its jail.
bool has_loopback(Profile profile);

// Code: read-only, and what is there may be mapped as code: shared libraries. Programs: the same,
// and it may be executed.
enum class Access : std::uint8_t { ReadOnly, ReadWrite, Code, Programs };

// A folder of the host bound at `target` ("/artifact"). Mounts are nosuid, nodev and, but for Code
// and Programs, noexec. Under a root server the source must be readable (ReadWrite: owned) by the
// plan's host id; the folders above it need not be.
struct JailMount {
  std::string source;
  std::string target;
  Access access = Access::ReadOnly;
  bool operator==(const JailMount&) const = default;
};

// Inside, a jail has one user and one group.
inline constexpr uid_t kInsideId = 1000;
inline constexpr std::uint32_t kDefaultIdBase = 0x7A00'0000;

// The host's view of kInsideId.
struct IdMapping {
  uid_t user = 0;
  gid_t group = 0;
  bool operator==(const IdMapping&) const = default;
  // The mapping this process can make: as root an id of the slot's own, else the process's own ids.
  static IdMapping for_slot(std::uint32_t slot, std::uint32_t base = kDefaultIdBase);
};

// Address space is not limited: memory is the cgroup's business, and ONNX Runtime maps far more
// than it touches.
struct JailLimits {
  std::uint64_t open_files = 64;
  std::uint64_t processes = 256;
  std::uint64_t file_bytes = 0;  // the largest file that may be written
  // Of /tmp and of /dev/shm, each a file system in the jail's own memory; 0: there are none.
  std::uint64_t scratch_bytes = 0;
  bool operator==(const JailLimits&) const = default;
};

struct JailPlan {
  Profile profile = Profile::Template;
  std::vector<JailMount> mounts;
  IdMapping ids;
  JailLimits limits;
  // Borrowed descriptors of the control groups that jail init joins by writing "0". They travel
  // beside the encoding (SCM_RIGHTS) and are put in by the receiver. May be empty: cgroup limits
  // are missing then, as `doctor` says.
  std::vector<int> cgroups;
  // Whether the jail has secrets, and the borrowed descriptor of them (sandbox/secret_files.h),
  // which travels in the same way.
  bool has_secrets = false;
  int secrets = -1;
  // It is made before its version is known: fit_jail() mounts /artifact, and /secrets, later.
  bool awaits_version = false;

  LayerSet layers() const { return layers_; }

 private:
  friend struct JailPlanSurgeon;
  LayerSet layers_ = LayerSet::all();
};

// A plan with every layer and the limits that fit the profile, which is no instance's.
JailPlan full_plan(Profile profile);

// Refuses what no jail may have: the host's root id, a mount target that is not one folder in the
// root, relative or repeated paths, a profile that is not a jail's.
Status validate(const JailPlan& plan);

// The wire form (little-endian), strict in both directions: a plan that does not validate is
// neither encoded nor decoded.
//   "MJP5"  u8 profile  u32 user  u32 group  u64 open_files  u64 processes  u64 file_bytes
//   u64 scratch_bytes  u8 has_secrets  u8 awaits_version  u8 mounts  { u8 access  u16 length source
//   u16 length target }...
inline constexpr std::size_t kMaxEncodedPlan = 32 * 1024;
Result<std::vector<std::byte>> encode_plan(const JailPlan& plan);
Result<JailPlan> decode_plan(std::span<const std::byte> bytes);

}  // namespace mayfly
