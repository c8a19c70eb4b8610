// Blobs in memory, held to the same contract as files (store/blob_store_test.cc).
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "store/blob_store.h"

namespace mayfly {

class FakeBlobStore final : public BlobStore {
 public:
  explicit FakeBlobStore(const Clock& clock) : clock_(clock) {}  // outlives me

  Result<std::unique_ptr<BlobWriter>> create() override;
  using BlobStore::resume;
  Result<std::unique_ptr<BlobWriter>> resume(const std::optional<Digest>& expected,
                                             const Digest& slot) override;
  Result<std::uint64_t> partial_size(const Digest& slot) const override;
  Status drop_partial(const Digest& slot) override;
  Status for_each_partial(const std::function<Status(const BlobInfo&)>& visit) const override;
  Result<Fd> open(const Digest& digest) const override;
  Result<BlobFile> file(const Digest& digest) const override;
  Result<BlobInfo> adopt(const Digest& digest, const BlobStore& from) override {
    return copy_blob(digest, from, *TRY(create()));
  }
  Result<std::optional<BlobInfo>> find(const Digest& digest) const override;
  Status remove(const Digest& digest) override;
  Status for_each(const std::function<Status(const BlobInfo&)>& visit) const override;

  // What a disk may do: a blob has other bytes than its name says.
  void corrupt(const Digest& digest, std::string_view bytes);

 private:
  friend class FakeBlobWriter;
  struct Stored {
    std::vector<std::byte> bytes;
    WallTime modified{};
  };
  using Shelf = std::map<Digest, Stored>;
  Status visit_all(const Shelf& shelf, const std::function<Status(const BlobInfo&)>& visit) const;

  const Clock& clock_;
  mutable std::mutex mutex_;
  Shelf blobs_;
  Shelf partials_;
  std::set<Digest> uploading_;
};

}  // namespace mayfly
