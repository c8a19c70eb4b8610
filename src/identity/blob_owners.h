// Which project has which blob, and how much it stores. The store keeps equal bytes once, but
// nobody may learn from an upload that somebody else has them: what a project did not upload itself
// is not there for it. Calls block; any thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "store/blob_store.h"
#include "store/digest.h"
#include "store/sqlite.h"

namespace mayfly {

struct OwnedBlob {
  std::string project;
  BlobInfo blob;
};

class BlobOwners {
 public:
  // Whose the blobs are that versions were made of before anybody took notes: asked once, where
  // there are no notes yet.
  using Found = std::function<Result<std::vector<OwnedBlob>>()>;
  // By project, what its versions need.
  using Needed = std::map<std::string, std::unordered_set<Digest>, std::less<>>;

  // `clock` outlives me.
  static Result<std::unique_ptr<BlobOwners>> open(const Path& database, const Clock& clock,
                                                  const Found& found);

  // Of bytes that are in the store. What was reserved in `slot` is counted as the blob from now on.
  Status add(std::string_view project, const BlobInfo& blob, const Digest& slot);
  Result<bool> has(std::string_view project, const Digest& blob);

  // Where the project's upload of the blob is kept, apart from every other project's.
  static Digest slot(std::string_view project, const Digest& blob);
  Digest fresh_slot();  // for bytes whose digest nobody knows yet

  struct Upload {
    enum class Kind : std::uint8_t { Resumable, Fresh };  // Fresh: forgotten with a restart
    std::string_view project;
    Digest slot{};
    std::optional<Bytes> size{};  // nullopt: unknown, so that it is given all that is left
    Kind kind = Kind::Resumable;
  };
  // Counts it towards what the project stores until it is added or released; how large it may get.
  // quota_exceeded: that would be more than `limit`; 0: there is none.
  Result<Bytes> reserve(const Upload& upload, Bytes limit);
  Status release(const Digest& slot);
  Result<Bytes> stored(std::string_view project);

  // After a garbage collection: what a project has no version of, and has not asked for since
  // `unused_since`, is no longer its own; and what is not in the store is nobody's.
  Status collect(const Needed& needed, WallTime unused_since, const BlobStore& store);

 private:
  BlobOwners(Database database, const Clock& clock)
      : database_(std::move(database)), clock_(clock) {}
  Status create(const Found& found);
  Status insert(std::string_view project, const BlobInfo& blob);
  Status forget_uploads(WallTime begun_before, const BlobStore& store);
  Result<Bytes> sum(std::string_view project, const Digest& without);

  std::mutex mutex_;
  Database database_;
  const Clock& clock_;
  std::uint64_t fresh_ = 0;
};

}  // namespace mayfly
