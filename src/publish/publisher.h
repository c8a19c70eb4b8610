// Publishing seen from the server: an uploaded artifact becomes a manifest and a compiled folder.
//
// The server parses no model: it lays the artifact's files out, runs the job in its jail
// (runner/publish.h), and takes over what the job made after checking everything it says. A job
// that crashes, hangs or runs out of memory costs only this publish, with the step it was in.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/cancel.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "base/file.h"
#include "base/result.h"
#include "core/manifest.h"
#include "core/secret.h"
#include "publish/compiled_store.h"
#include "publish/environments.h"
#include "publish/source_folder.h"
#include "publish/target.h"
#include "runner/report/report.h"
#include "sandbox/job.h"

namespace mayfly {

struct PublishRequest {
  std::string label;  // of the function: for logs, and whose project the compiled folder is of
  std::vector<SourceFile> files;
  VersionOptions options;
  CancelToken cancel = {};       // whoever asked is gone: the job is killed and the publish fails
  Environment environment = {};  // known already: what it locks is installed, nothing newer
  bool settled = false;          // the version is there: without an environment it gets none
};

struct Published {
  Manifest manifest;
  Report report;
  Path compiled;        // the folder that a template mounts at /artifact
  bool reused = false;  // an equal artifact had been compiled before
  Bytes peak_memory{};  // of the job; 0: unknown, or reused
};

// The values of secrets that a project has; blocking.
using ReadSecrets =
    std::function<Result<Secrets>(std::string_view project, const std::vector<std::string>& names)>;

// What Python functions are given.
struct PythonSupplies {
  PackageIndex index = {};
  ReadSecrets read_secrets = {};  // null: nobody has any
};

class Publisher {
 public:
  struct Folders {
    Path compiled;
    Path tmp;  // emptied at every start of the node: leftovers of killed publishes end there
    Path environments = {};  // of Python functions
    // What compiled folders are sealed with; nullopt: one that ends with this process.
    std::optional<PrivateKey> key = {};
  };
  // Told on the loop thread: "optimise", "onnx, all".
  using Progress = std::function<void(std::string_view step, std::string_view detail)>;

  // `loop`, `pool` and `jobs` outlive the publisher, and it outlives its tasks.
  Publisher(Loop& loop, Pool& pool, JobRunner& jobs, Folders folders, CompileTarget target,
            PythonSupplies python = {});

  // Destroying the task kills the job. Reasons: invalid_model, invalid_input, publish_failed,
  // secret_unavailable.
  Task<Result<Published>> publish(PublishRequest request, Progress progress);

  // The compiled folder of a version; NotFound when it must be rebuilt for this machine.
  // Looked up on `pool`, so that it waits for no publish. `label`: as in PublishRequest.
  Task<Result<Path>> compiled_for(std::string_view label, Manifest manifest, Pool& pool);
  // The same, rebuilt from `files` when it must be: after an upgrade of ONNX Runtime, on another
  // CPU, or when the folder was lost or damaged. Fails when the rebuilt signature is another one.
  Task<Result<Path>> rebuilt_for(std::string label, Manifest manifest,
                                 std::vector<SourceFile> files, CancelToken cancel = {});

  // The secrets that a version names, as they are now. Read on `pool`. secret_unavailable.
  Task<Result<Secrets>> secrets_for(std::string label, VersionOptions options, Pool& pool);

  // Where a version's packages lie, or will when it is served; empty: it has none.
  Path environment_of(const Manifest& manifest) const {
    return environments_.folder(manifest.environment);
  }

  CompiledStore& forms() { return store_; }
  const CompileTarget& target() const { return target_; }

 private:
  Task<Result<Environment>> provide_environment(const PublishRequest& request, Progress progress);
  struct Trial {
    PublishRequest request;
    std::string key;
    Secrets secrets;
  };
  Task<Result<Published>> run_job(Trial trial, Progress progress);
  JobSpec spec_of(const PublishRequest& request, const SourceFolder& folder) const;

  Loop& loop_;
  Pool& pool_;
  JobRunner& jobs_;
  const Folders folders_;
  const CompileTarget target_;
  CompiledStore store_;
  Environments environments_;
  ReadSecrets read_secrets_;
};

}  // namespace mayfly
