// The packages of Python functions: found, or installed by pip in a jail that has no network and is
// handed connections to the hosts of the package index alone. What has no wheel may be built, in
// jails without connections; Debian's packages are fetched and unpacked in one that is handed those
// to its mirrors. Loop thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "async/cancel.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "base/result.h"
#include "core/manifest.h"
#include "publish/environment_store.h"
#include "publish/source_folder.h"
#include "runner/report/resolve_job.h"
#include "sandbox/job.h"

namespace mayfly {

// Where packages come from: as pip is configured, or as the operator says.
struct PackageIndex {
  std::string url;                 // of its pages, as pip takes it; empty: only vendored wheels
  std::vector<std::string> hosts;  // that may be connected to, for pages and files: "host:port"
  std::vector<std::string> debian_hosts = {};  // of the mirrors that apt is configured with
};

class Environments {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Pool& pool;
    JobRunner& jobs;
  };
  struct Folders {
    Path environments;
    Path tmp;  // on the same file system
  };
  using Progress = std::function<void(std::string_view step, std::string_view detail)>;

  Environments(Parts parts, Folders folders, PackageIndex index);

  struct Wanted {
    std::string label;  // of the function: for logs
    std::vector<SourceFile> files;
    Bytes memory;
    Duration timeout;
    std::string lock = {};  // what to install exactly; empty: what the files lead to
    bool build = false;     // packages without a wheel, from their sources
    std::vector<std::string> debian = {};
    std::string digest = {};  // that the lock leads to; empty: not known
    CancelToken cancel = {};
  };
  // Empty when the files ask for none, or pyproject.toml turns out not to. What the same
  // requirements led to before is taken again.
  Task<Result<Environment>> provide(Wanted wanted, Progress progress);

  Path folder(const Environment& environment) const;  // empty: there is none
  // Whether it lies there. Blocking: for pools.
  bool has(const Environment& environment) const { return store_.has(environment.digest); }

 private:
  struct Installing;
  Task<Result<Environment>> install(Wanted wanted, std::vector<SourceFile> sources,
                                    std::string request, Progress progress);
  Task<Result<Resolved>> run_step(std::shared_ptr<Installing> installing, ResolveStep step);
  JobSpec spec_of(const Installing& installing, ResolveStep step) const;
  void answer(const std::shared_ptr<Installing>& installing, std::string_view message);
  Task<void> connect(std::shared_ptr<Installing> installing, ConnectRequest request);

  Parts parts_;
  Folders folders_;
  PackageIndex index_;
  EnvironmentStore store_;
};

}  // namespace mayfly
