// Starting and ending what runs inside the jail, seen from the server: templates and the instances
// forked from them. Interfaces, so that dispatch is tested without processes
// (testing/fake_spawner.h); the real one (process_spawner.h) keeps a blank and speaks to it.
//
// Everything here lives on the loop thread and never blocks. Callbacks run on the loop thread,
// never from inside the call that registered them, and never after their object is destroyed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "core/manifest.h"
#include "core/secret.h"
#include "sandbox/call_message.h"
#include "sandbox/channel.h"

namespace mayfly {

// What a jail is for: what executes the artifact, or for jobs only, libmayfly-batch.so reading and
// writing tables, or libmayfly-train.so learning from them.
enum class RuntimeKind : std::uint8_t { Onnx, Python, Tables, Training };

struct TemplateSpec {
  std::string label;  // "fraud@7": for logs and the cgroup's name
  RuntimeKind runtime = RuntimeKind::Onnx;
  Path artifact;       // the compiled folder, mounted read-only at /artifact
  Path environment{};  // Python packages, mounted at /environment; empty: none
  Secrets secrets{};   // of a Python function, at /secrets; null: none
  std::shared_ptr<const Signature> signature;
  std::uint32_t cpu_weight = 0;  // against others' 100 where processors are short; 0: 100
  std::uint32_t threads = 1;
  bool session_after_fork = false;
  Bytes scratch{};        // of /tmp, which a version's instances share; 0: there is none
  Bytes memory;           // limit of each instance's private bytes
  Bytes template_memory;  // limit of the template: private bytes and weights
  Duration start_timeout = std::chrono::seconds(60);
};

// How an instance or template ended. `oom`: the kernel killed it at its memory limit.
struct Exit {
  int code = 0;
  int signal = 0;
  bool oom = false;
};

struct Reply {
  std::vector<OutputView> outputs;  // valid as long as `memory`
  std::shared_ptr<const void> memory;
};

using Replies = std::vector<Result<Reply>>;

// A call, or the answer to one. `region`: it lies there, written already, and is not in `message`.
struct PlacedCall {
  CallMessage message{};
  std::shared_ptr<const void> memory{};  // the parts of `message` are valid as long
  std::shared_ptr<Region> region{};
};

struct InstanceEvents {
  // The fresh instance is set up and about to read its first request.
  std::move_only_function<void()> on_started;
  // Replies to the oldest requests it was given, in their order, checked.
  std::move_only_function<void(Replies)> on_replies;
  // The next chunk of the stream that it runs, checked. It waits for go_on() or close_stream(); the
  // stream's end is its reply, without outputs where it ended well.
  std::move_only_function<void(Reply)> on_chunk{};
  // The request that it runs calls a function, and waits for answer().
  std::move_only_function<void(PlacedCall)> on_call{};
  // The process is gone; no further event follows. What it had not answered stays so; collect() and
  // take_back() still tell.
  std::move_only_function<void(Exit)> on_exit;
};

// One jailed process. Destroying it kills it as a unit.
class Instance {
 public:
  virtual ~Instance() = default;
  // Hands a request over at the end of the loop's turn, alone or as the next of a burst. Only an
  // instance that has no request, or may_join(). A fresh one may be given its first before it has
  // started.
  virtual void run(RequestMemory request) = 0;
  // It gathers a burst in this turn, and this request fits.
  virtual bool may_join(const RequestMemory& request) const = 0;
  // Replies that lie there although on_replies has not told yet.
  virtual Replies collect() = 0;
  // The newest requests that it has not begun, in their order: they are no longer its. The oldest
  // that it has not answered stays, unless it broke the protocol.
  virtual std::vector<RequestMemory> take_back() = 0;
  // After on_chunk, once: the next one is wanted.
  virtual void go_on() = 0;
  // Of the stream that it runs: no more is wanted. Further chunks are dropped; the reply comes when
  // the function has ended, if it ever does.
  virtual void close_stream() = 0;
  // After on_call, once. Nothing where it no longer waits.
  virtual void answer(PlacedCall answer) = 0;
  virtual void kill() = 0;
  // Taken from outside. CPU time since the process began; private bytes now and at most (0:
  // unknown).
  virtual Duration cpu() const = 0;
  virtual Bytes peak_memory() const = 0;
};

struct TemplateReady {
  Duration build{};       // from the request to a loaded session
  Bytes private_bytes{};  // of the template, from outside
};

struct TemplateEvents {
  std::move_only_function<void(Result<TemplateReady>)> on_ready;  // exactly once
  std::move_only_function<void(Exit)> on_lost;                    // it died after it was ready
};

// One jailed template. Destroying it ends the template, never its instances.
class Template {
 public:
  virtual ~Template() = default;
  // Only when ready. The instance is being made when this returns. Unavailable: the template has
  // died.
  virtual Result<std::unique_ptr<Instance>> fork(InstanceEvents events) = 0;
};

// A jail of Python without a version: the interpreter, and modules of the environment imported.
struct EnvironmentSpec {
  std::string label;    // for logs and the control group's name
  Path environment;     // mounted at /environment
  std::string options;  // core/function_options.h, as JSON; `env` matters
  std::string imports;  // what publishing saw imported, a module a line; opaque here
  std::uint32_t cpu_weight = 0;
  std::uint32_t threads = 1;
  Bytes scratch{};
  Bytes template_memory;
  Duration start_timeout = std::chrono::seconds(60);
};

// An environment template: it waits, and becomes the template of one version. Destroying it ends it
// unless it was given.
class EnvironmentTemplate {
 public:
  virtual ~EnvironmentTemplate() = default;
  // Once, when ready. What comes of it tells with `events`, and none of its own any more; it has
  // the version's limits. Its spec has the same environment, scratch and threads, and the session
  // goes before the fork. Aborted, here or of on_ready: it does not suit the version, which is not
  // to blame.
  virtual Result<std::unique_ptr<Template>> give(TemplateSpec spec, TemplateEvents events) = 0;
};

class Spawner {
 public:
  virtual ~Spawner() = default;
  virtual Result<std::unique_ptr<Template>> start_template(TemplateSpec spec,
                                                           TemplateEvents events) = 0;
  virtual Result<std::unique_ptr<EnvironmentTemplate>> start_environment(EnvironmentSpec spec,
                                                                         TemplateEvents events) = 0;
};

}  // namespace mayfly
