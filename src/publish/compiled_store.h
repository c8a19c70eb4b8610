// Compiled artifacts on disk, shared by all versions of equal artifacts:
//
//   DIR/compiled/KEY/            0755, so that a template with an id of its own can read it
//     compiled.json              what it is for, the report, each file with its SHA-256
//     seal.json                  the node's record of all of it; publish/form_seal.h
//     load.json model.onnx …     0444; runner/load_plan.h
//     function/…                 of a Python function: what was uploaded, links to its blobs
//
// A folder appears whole or not at all: it is filled under tmp/, synced and renamed. Blocking: for
// pools. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/manifest.h"
#include "publish/form_seal.h"
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
  // `root`: DIR/compiled; `tmp`: a folder on the same file system; `key`: the node's.
  CompiledStore(Path root, Path tmp, PrivateKey key)
      : root_(std::move(root)), tmp_(std::move(tmp)), seals_(std::move(key)) {}

  Path folder(const std::string& key) const { return root_ / key; }

  // Whether it is there and its files are those that were sealed; hashes nothing. One that is not
  // what was sealed is moved out of the way, so that it is compiled again.
  Result<bool> has(const std::string& key);
  // The same with what it says of itself. nullopt: not there.
  Result<std::optional<Compiled>> find(const std::string& key);
  // Hashes every byte; `pace` is told how many were read and ends it with an error of its own.
  // DataLoss: the record, or a file, is not what was sealed. Nothing where the folder is gone.
  using Pace = std::function<Status(std::uint64_t bytes)>;
  Status verify(const std::string& key, const Pace& pace);

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
  Status intact(const std::string& key);
  Status discard(const std::string& key, const Error& why);

  const Path root_;
  const Path tmp_;
  FormSeals seals_;
};

}  // namespace mayfly
