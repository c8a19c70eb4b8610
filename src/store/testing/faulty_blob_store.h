// A blob store whose disk fills up: wraps another one and fails writes when a test says so.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>

#include "store/blob_store.h"

namespace mayfly {

class FaultyBlobStore final : public BlobStore {
 public:
  explicit FaultyBlobStore(BlobStore& store) : store_(store) {}  // outlives me

  // After so many more bytes every append fails with storage_full; a commit never does.
  void fill_after(std::uint64_t bytes) { room_ = bytes; }
  // Every removal fails from now on.
  void refuse_removals() { refuse_removals_ = true; }

  Result<std::unique_ptr<BlobWriter>> create() override { return wrap(store_.create()); }
  using BlobStore::resume;
  Result<std::unique_ptr<BlobWriter>> resume(const std::optional<Digest>& expected,
                                             const Digest& slot) override {
    return wrap(store_.resume(expected, slot));
  }
  Result<std::uint64_t> partial_size(const Digest& expected) const override {
    return store_.partial_size(expected);
  }
  Status drop_partial(const Digest& expected) override { return store_.drop_partial(expected); }
  Status for_each_partial(const std::function<Status(const BlobInfo&)>& visit) const override {
    return store_.for_each_partial(visit);
  }
  Result<Fd> open(const Digest& digest) const override { return store_.open(digest); }
  Result<BlobFile> file(const Digest& digest) const override { return store_.file(digest); }
  Result<BlobInfo> adopt(const Digest& digest, const BlobStore& from) override {
    return store_.adopt(digest, from);
  }
  Result<std::optional<BlobInfo>> find(const Digest& digest) const override {
    return store_.find(digest);
  }
  Status remove(const Digest& digest) override;
  Status for_each(const std::function<Status(const BlobInfo&)>& visit) const override {
    return store_.for_each(visit);
  }

 private:
  friend class FaultyBlobWriter;
  Result<std::unique_ptr<BlobWriter>> wrap(Result<std::unique_ptr<BlobWriter>> writer);

  BlobStore& store_;
  std::uint64_t room_ = std::numeric_limits<std::uint64_t>::max();
  bool refuse_removals_ = false;
};

}  // namespace mayfly
