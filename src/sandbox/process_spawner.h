// The real spawner: mayfly-runner's blank, and jails made from it.
//
//   server ── exec ──► blank ── clone ──► jail init ──► template ── clone ──► instances
//
// Loop thread, and that thread must live as long as the server: its end ends every jail. Handles
// (Template, Instance, Job) are destroyed before the spawner; the spawner's end leaves no process
// and no control group.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "async/loop.h"
#include "sandbox/cgroup.h"
#include "sandbox/job.h"
#include "sandbox/process_blank.h"
#include "sandbox/process_job.h"
#include "sandbox/process_template.h"
#include "sandbox/spawner.h"

namespace mayfly {

// What a Python jail sees of the host, read-only.
struct PythonFolders {
  Path runtime;       // Mayfly's part: libmayfly-python.so and its module; at /runtime
  Path library;       // the standard library, /usr/lib/python3.11; at /python
  Path libraries;     // shared libraries of the system; at /lib, where the loader looks
  Path packages;      // the system's pip; at /pip, of jobs that install
  Path certificates;  // ca-certificates.crt in it; at /certificates, of jobs that install
};

struct ProcessSpawnerOptions {
  Path runner;  // the executable mayfly-runner
  PythonFolders python = {};
  Path tables = {};                // libmayfly-batch.so and Arrow; at /runtime of jobs over tables
  Path training = {};              // libmayfly-train.so and XGBoost; at /runtime of trainings
  NodeCgroups* cgroups = nullptr;  // outlives the spawner; none: nothing is limited by groups
  Bytes max_reply = mib(64);       // of outputs that do not fit the request's region
  std::uint32_t id_base = kDefaultIdBase;
  std::uint64_t processes = 512;  // of one version, threads included
  std::uint32_t cpus = 0;         // that one version may keep busy; 0: all there are
  // A line that a jail wrote to its log; label as in the specs, "runner" for the blank's own.
  std::function<void(std::string_view label, std::string_view line)> on_log;
};

class ProcessSpawner final : public Spawner, public JobRunner {
 public:
  static Result<std::unique_ptr<ProcessSpawner>> create(Loop& loop, ProcessSpawnerOptions options);
  ~ProcessSpawner() override;

  Result<std::unique_ptr<Template>> start_template(TemplateSpec spec,
                                                   TemplateEvents events) override;
  Result<std::unique_ptr<EnvironmentTemplate>> start_environment(EnvironmentSpec spec,
                                                                 TemplateEvents events) override;
  Result<std::unique_ptr<Job>> run_job(JobSpec spec, JobEvents events) override;

  // Called once: the runner is ready for jails, or says why it cannot be.
  void on_ready(std::move_only_function<void(Status)> callback) {
    blank_.on_ready(std::move(callback));
  }
  bool ready() const { return blank_.ready(); }
  // Of ONNX Runtime; empty until the runner is ready.
  const std::string& runtime_version() const { return blank_.runtime_version(); }
  pid_t blank_pid() const { return blank_.pid(); }
  // That still hold a process.
  std::size_t jails() const { return templates_.size() + jobs_.size(); }

 private:
  friend class EnvironmentHandle;
  ProcessSpawner(Loop& loop, ProcessSpawnerOptions options);
  JailProcess::Making begin(std::string label, Profile profile);
  void mount_python(JailPlan& plan, const Path& environment, Bytes scratch) const;
  void mount_library(JailPlan& plan, const Path& folder) const;
  void mount_tools(JailPlan& plan, JobTools tools) const;
  VersionLimits version_limits(const TemplateSpec& spec) const;
  struct TemplateParts {
    std::shared_ptr<const Signature> signature;
    Duration start_timeout{};
    TemplateEvents events;
  };
  Result<std::shared_ptr<TemplateJail>> make_template(JailProcess::Making making,
                                                      const VersionLimits& limits,
                                                      TemplateParts parts);
  Status make_groups(JailProcess::Making& making, VersionLimits limits);
  std::function<void(std::string_view)> log_of(const std::string& label) const;
  void release(std::uint32_t slot) { slots_.erase(slot); }

  Loop& loop_;
  ProcessSpawnerOptions options_;
  std::uint64_t next_id_ = 1;
  std::set<std::uint32_t> slots_;  // of the host's ids, in use
  std::map<std::uint64_t, std::shared_ptr<TemplateJail>> templates_;
  std::map<std::uint64_t, std::shared_ptr<JobJail>> jobs_;
  BlankProcess blank_;
};

}  // namespace mayfly
