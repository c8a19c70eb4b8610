// Installed packages on disk, shared by all versions of a project that need the same:
//
//   DIR/environments/DIGEST/         0755; mounted at /environment, as sys.path finds it
//   DIR/environments/requests/KEY    what a list of requirements led to: {"digest", "lock"}
//
// A digest is over the installed files (paths, sizes, SHA-256), the project, the Python and the
// architecture; not over compiled bytecode, which is not the same twice, and for whose sake no
// project runs what another's job left. A folder appears whole, on the disk, or not at all.
// Blocking: for pools. Any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/manifest.h"

namespace mayfly {

class EnvironmentStore {
 public:
  // `root`: DIR/environments, on the file system of what is installed.
  explicit EnvironmentStore(Path root) : root_(std::move(root)) {}

  Path folder(std::string_view digest) const { return root_ / digest; }

  // What these requirements led to before; nullopt: nothing, or it is gone. Counts as a use: what
  // is found is young again to garbage collection.
  Result<std::optional<Environment>> find(const std::string& request) const;
  bool has(std::string_view digest) const;

  // Takes over what a job left in `installed`: checks that it holds plain files and folders only,
  // nothing linked from elsewhere, within bounds; hashes them, makes them the server's own.
  struct For {
    std::string_view project;
    std::string request;
  };
  Result<Environment> install(const For& whom, const Path& installed, std::string lock);

 private:
  const Path root_;
};

// Which of the uploaded files say what an environment holds: requirements.txt, pyproject.toml, and
// wheels/*.whl beside them. Empty: there is neither, and no environment. Whether pyproject.toml
// asks for packages is not known before the job has read it.
std::vector<ArtifactFile> requirement_files(const std::vector<ArtifactFile>& files);
// The key of a request for them.
std::string environment_request(std::string_view project,
                                const std::vector<ArtifactFile>& requirements);

}  // namespace mayfly
