// Blobs as files:
//
//   ROOT/sha256/ab/abcdef…    whole blobs, mode 0444, named by all 64 digits
//   ROOT/partial/abcdef…      uploads under way, named by what they shall become
//   TMP/blob-XXXXXX           writers without a digest yet; swept at every start
//
// tmp → fsync → rename → fsync of the folder: a name under sha256/ is only ever given to synced
// bytes that were hashed on the way.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>

#include "base/file.h"
#include "store/blob_store.h"

namespace mayfly {

// Told of bytes that are whole, hashed and on the disk, before they get their name. An Error
// refuses the commit; what came stays where it is, so that the upload can be committed later.
using BeforeNaming = std::function<Status(const Digest& digest, int file, std::uint64_t size)>;

class LocalBlobStore final : public BlobStore {
 public:
  // `root` and `tmp` lie on one file system. The writers I hand out must not outlive me.
  static Result<std::unique_ptr<LocalBlobStore>> open(const Path& root, const Path& tmp);

  Result<std::unique_ptr<BlobWriter>> create() override { return create(nullptr); }
  using BlobStore::resume;
  Result<std::unique_ptr<BlobWriter>> resume(const std::optional<Digest>& expected,
                                             const Digest& slot) override {
    return resume(expected, slot, nullptr);
  }
  Result<std::uint64_t> partial_size(const Digest& slot) const override;
  Status drop_partial(const Digest& slot) override;
  Status for_each_partial(const std::function<Status(const BlobInfo&)>& visit) const override;
  Result<Fd> open(const Digest& digest) const override;
  Result<BlobFile> file(const Digest& digest) const override;
  Result<BlobInfo> adopt(const Digest& digest, const BlobStore& from) override {
    return adopt(digest, from, nullptr);
  }
  Result<std::optional<BlobInfo>> find(const Digest& digest) const override;
  Status remove(const Digest& digest) override;
  Status for_each(const std::function<Status(const BlobInfo&)>& visit) const override;

  Result<std::unique_ptr<BlobWriter>> create(BeforeNaming before);
  Result<std::unique_ptr<BlobWriter>> resume(const std::optional<Digest>& expected,
                                             const Digest& slot, BeforeNaming before);
  Result<BlobInfo> adopt(const Digest& digest, const BlobStore& from, const BeforeNaming& before);

  // The file of a blob, whether or not it exists.
  Path path_of(const Digest& digest) const;

 private:
  friend class LocalBlobWriter;
  // The running hash of an interrupted upload. Without it an upload in many requests would hash its
  // beginning once per request; after a restart it is hashed once more from the file.
  struct Parked {
    Digest slot;
    std::uint64_t offset = 0;
    Sha256 hash;
  };

  LocalBlobStore(Path root, Path tmp) : root_(std::move(root)), tmp_(std::move(tmp)) {}
  Path partial_path(const Digest& slot) const;
  Result<BlobInfo> publish(const Path& from, const Digest& digest, std::uint64_t size);
  Result<BlobInfo> publish_link(const Path& link, const Digest& digest, const BeforeNaming& before);
  Status claim(const Digest& slot);
  void release(const Digest& slot);
  void park(Parked parked);
  std::optional<Parked> unpark(const Digest& slot);

  Path root_;
  Path tmp_;
  std::mutex mutex_;
  std::set<Digest> uploading_;  // slots
  std::deque<Parked> parked_;   // newest last, bounded
};

}  // namespace mayfly
