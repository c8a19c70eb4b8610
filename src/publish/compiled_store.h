// Compiled artifacts on disk, shared by all versions of equal artifacts:
//
//   DIR/compiled/KEY/            0755, so that a template with an id of its own can read it
//     compiled.json              what it is for, the report, each file with its SHA-256
//     load.json model.onnx …     0444; runner/load_plan.h
//     function/…                 of a Python function: what was uploaded, links to its blobs
//
// A folder appears whole or not at all: it is filled under tmp/, synced and renamed. Blocking: for
// pools. Any thread; the set of verified folders is guarded.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/manifest.h"
#include "publish/source_folder.h"
#include "publish/target.h"
#include "runner/report/report.h"

namespace mayfly {

struct Compiled {
  CompileTarget target;
  Report report;
  std::vector<ArtifactFile> files;  // digests taken by the server, outside the jail
  bool operator==(const Compiled&) const = default;
};
std::string to_json(const Compiled& compiled);
Result<Compiled> parse_compiled(std::string_view json);

class CompiledStore {
 public:
  // `root`: DIR/compiled; `tmp`: a folder on the same file system.
  CompiledStore(Path root, Path tmp) : root_(std::move(root)), tmp_(std::move(tmp)) {}

  Path folder(const std::string& key) const { return root_ / key; }

  // nullopt: not there. Its bytes are hashed at first use in this process; a folder that is damaged
  // is moved out of the way, so that it is compiled again.
  Result<std::optional<Compiled>> find(const std::string& key);

  // Takes over what a job left in `out`: checks that the files are what the report lists, regular,
  // not linked from elsewhere and of the sizes told, hashes them, makes them the server's own. The
  // sources are laid out beside them. When the key is there already, that one stays.
  struct Parts {
    CompileTarget target;
    Report report;
    Path out;
    std::vector<SourceFile> sources = {};
  };
  Result<Compiled> install(const std::string& key, Parts parts);

 private:
  Result<std::vector<ArtifactFile>> take_files(const Report& report, const Path& out,
                                               const Path& folder);
  Status verify(const Compiled& compiled, const Path& folder) const;
  bool is_verified(const std::string& key);
  void remember(const std::string& key);

  const Path root_;
  const Path tmp_;
  std::mutex mutex_;
  std::unordered_set<std::string> verified_;  // guarded by mutex_
};

}  // namespace mayfly
