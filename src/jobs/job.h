// Runs that are not requests, as they are kept: what is asked for, how far it is, what it made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "store/digest.h"

namespace mayfly {

enum class JobKind : std::uint8_t {
  Batch,   // a function over the rows of a file
  Run,     // the run() of a Python function
  Ingest,  // files become a snapshot of a dataset
  Train,   // a model for a function is looked for: trials and scores are its children
  Trial,   // one configuration of a trainer is trained
  Score,   // models that are there, over rows of a snapshot; or such rows as requests
};
inline constexpr std::size_t kJobKinds = 6;
// Whether it belongs to a dataset, which `function` names then.
inline bool is_of_dataset(JobKind kind) { return kind == JobKind::Ingest; }
// Whether it makes what becomes a version of its function, which need not be there yet.
inline bool is_of_training(JobKind kind) {
  return kind == JobKind::Train || kind == JobKind::Trial || kind == JobKind::Score;
}
std::string_view to_string(JobKind kind);

// Numbers stand in the store: append only. Done and what comes after it is over.
enum class JobState : std::uint8_t { Queued, Running, Paused, Done, Failed, Cancelled, Expired };
inline constexpr std::uint8_t kJobStates = 7;
std::string_view to_string(JobState state);
std::optional<JobState> parse_job_state(std::string_view text);
inline bool is_over(JobState state) { return state >= JobState::Done; }

// What a file of a job is to it.
enum class FileRole : std::uint8_t {
  Input,       // given with the job
  Checkpoint,  // of a slice: its last two are kept
  Part,        // of the result, from each slice; kept until the job is over
  Result,      // kept as long as the job
};
inline constexpr std::size_t kFileRoles = 4;

struct JobFile {
  FileRole role = FileRole::Checkpoint;
  std::string name;  // a relative path
  Digest digest{};
  std::uint64_t size = 0;
  std::uint32_t slice = 0;  // the checkpoint that named it, from 1; as it is read
  bool operator==(const JobFile&) const = default;
};

struct JobSubmission {
  std::string id;        // time-ordered
  std::string function;  // "team/iris"; or a dataset
  std::uint32_t version = 0;
  JobKind kind = JobKind::Run;
  std::string detail;  // JSON of the kind's own
  std::string caller;
  Bytes memory{};          // that a slice may take
  std::uint32_t cpus = 1;  // 0, with no memory: it has no jail, and waits for nobody's
  WallTime submitted{};
  WallTime expires{};
  Duration keep{};  // what it made, once it is over
  // The job whose part it is: paused, ended and forgotten with that one. Empty: of nobody's.
  std::string parent{};
};

// How far it is, as it says itself: for people.
struct JobProgress {
  double fraction = -1;  // of the work; below 0: unknown
  std::string text;
  std::string metrics = "{}";  // JSON: the last value of each
  bool operator==(const JobProgress&) const = default;
};

struct JobRecord {
  JobSubmission spec;
  JobState state = JobState::Queued;
  bool held = false;            // is paused, or will be when its slice ends
  std::uint64_t epoch = 0;      // of the last lease: what comes with an older one counts no more
  std::uint32_t slices = 0;     // checkpoints that were kept
  std::uint32_t failures = 0;   // slices that failed, since it got further
  WallTime due{};               // not before
  WallTime started{}, ended{};  // 0: not yet
  JobProgress progress;
  Duration cpu{};          // of its slices
  Duration ran{};          // with an instance or a slice at work, whoever paid for the wait
  std::string checkpoint;  // JSON of the kind's own: where the next slice goes on
  std::string result;      // JSON
  std::string reason, message;
};

// What may change a running job.
struct JobLease {
  std::string id;
  std::uint64_t epoch = 0;
};
inline JobLease lease_of(const JobRecord& job) { return {.id = job.spec.id, .epoch = job.epoch}; }

}  // namespace mayfly
