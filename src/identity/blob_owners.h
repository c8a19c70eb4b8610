// Which project has which blob. The store keeps equal bytes once, but nobody may learn from an
// upload that somebody else has them: what a project did not upload itself is not there for it.
// Calls block; any thread.
#pragma once

#include <memory>
#include <mutex>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "store/digest.h"
#include "store/sqlite.h"

namespace mayfly {

class BlobOwners {
 public:
  static Result<std::unique_ptr<BlobOwners>> open(const Path& database);

  Status add(std::string_view project, const Digest& blob);
  // What nobody is noted for is the project `default`'s: it came before there were projects.
  Result<bool> has(std::string_view project, const Digest& blob);

  // Where the project's upload of the blob is kept, apart from every other project's.
  static Digest slot(std::string_view project, const Digest& blob);

 private:
  explicit BlobOwners(Database database) : database_(std::move(database)) {}

  std::mutex mutex_;
  Database database_;
};

}  // namespace mayfly
