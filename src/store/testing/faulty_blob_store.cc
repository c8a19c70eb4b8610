#include "store/testing/faulty_blob_store.h"

#include <utility>

#include "core/reason.h"

namespace mayfly {

class FaultyBlobWriter final : public BlobWriter {
 public:
  FaultyBlobWriter(FaultyBlobStore& store, std::unique_ptr<BlobWriter> writer)
      : store_(store), writer_(std::move(writer)) {}

  std::uint64_t offset() const override { return writer_->offset(); }
  Status append(std::span<const std::byte> bytes) override {
    if (bytes.size() > store_.room_) {
      store_.room_ = 0;
      return refuse(reason::kStorageFull, "injected: no space left");
    }
    store_.room_ -= bytes.size();
    return writer_->append(bytes);
  }
  Result<BlobInfo> commit() override { return writer_->commit(); }

 private:
  FaultyBlobStore& store_;
  std::unique_ptr<BlobWriter> writer_;
};

Status FaultyBlobStore::remove(const Digest& digest) {
  if (refuse_removals_) return fail(Code::PermissionDenied, "injected: read-only file system");
  return store_.remove(digest);
}

Result<std::unique_ptr<BlobWriter>> FaultyBlobStore::wrap(
    Result<std::unique_ptr<BlobWriter>> writer) {
  if (!writer) return writer;
  return std::make_unique<FaultyBlobWriter>(*this, *std::move(writer));
}

}  // namespace mayfly
