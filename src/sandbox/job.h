// A jailed process that does one piece of work and ends: publishing, a slice of batch prediction.
// Seen from the server.
//
// The job runs in a jail of the Publish profile (PythonPublish where it opens libraries, another
// where it may start programs): /source read-only, /work writable, no network. Its entry point in
// the jail is run_publish (runner/publish.h). It sends progress as messages on its control socket
// (send() of one text each) and leaves its result in /work. The server treats both as hostile
// bytes.
//
// Everything here lives on the loop thread and never blocks. Callbacks run on the loop thread,
// never from inside run_job, and never after the Job is destroyed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "sandbox/spawner.h"

namespace mayfly {

// A job's request, and each of its progress messages, is at most this long.
inline constexpr std::size_t kMaxJobRequest = 64 * 1024;
inline constexpr std::size_t kMaxJobMessage = 16 * 1024;
// A job that sends more progress messages than this is killed, where its spec says nothing else.
inline constexpr std::size_t kMaxJobMessages = 1000;

// What a Python job is given beside an interpreter.
enum class JobTools : std::uint8_t {
  None,
  Install,   // pip is at /pip, the machine's authorities at /certificates
  Build,     // the same; and the machine's programs, at /usr, which it may start: compilers
  Debian,    // programs likewise; and apt's configuration, at /apt
  Programs,  // child processes: the interpreter and the machine's programs, at /bin
};

struct JobSpec {
  std::string label;  // "fraud": for logs and the cgroup's name
  RuntimeKind runtime = RuntimeKind::Onnx;
  // Under a root server the jail has an id of its own: `source` and the files in it must be
  // readable by everybody (0644, folders 0755), whatever stands above them. `work` is handed to
  // that id (chown of the folder itself) when the job starts; what the job writes belongs to it.
  Path source;
  Path work;
  std::string request;  // handed to run_publish as it is
  std::size_t max_messages = kMaxJobMessages;
  Bytes memory;               // limit of everything in the jail together
  std::uint32_t threads = 1;  // that it may keep busy at once
  Duration timeout = std::chrono::minutes(10);
  Secrets secrets{};   // of a Python function, at /secrets; null: none
  Path environment{};  // Python packages, at /environment; empty: none
  Path data{};         // what it learns from, at /data, as `source`; empty: none
  JobTools tools = JobTools::None;
  // Its processes may speak TCP with each other, and with nobody else; of a Training.
  bool loopback = false;
  bool idle = false;  // a guest: it gets what nobody else wants of processors and disks
};

struct JobEnd {
  Exit exit;
  bool timed_out = false;  // killed for running longer than `timeout`
  Bytes peak_memory;       // 0: unknown
  Duration cpu{};          // of all its processes; 0: unknown
};

struct JobEvents {
  std::move_only_function<void(std::string_view message)> on_progress;
  // Exactly once, after the last progress message; an Error when the jail could not be made, or the
  // job was killed for its flood of messages. No process of the job is left.
  std::move_only_function<void(Result<JobEnd>)> on_end;
};

// Destroying it kills everything in its jail.
class Job {
 public:
  virtual ~Job() = default;
  virtual void kill() = 0;  // on_end follows
  // A message to its control socket, which the job waits for; lost when the job is gone.
  virtual void send(std::string_view text, Fd descriptor) = 0;
};

class JobRunner {
 public:
  virtual ~JobRunner() = default;
  virtual Result<std::unique_ptr<Job>> run_job(JobSpec spec, JobEvents events) = 0;
};

}  // namespace mayfly
