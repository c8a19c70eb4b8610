#include "store/testing/fake_blob_store.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "base/check.h"
#include "core/reason.h"

namespace mayfly {

class FakeBlobWriter final : public BlobWriter {
 public:
  struct Upload {
    std::optional<Digest> expected;
    Digest slot;
  };
  FakeBlobWriter(FakeBlobStore& store, std::vector<std::byte> begun, std::optional<Upload> upload)
      : store_(store), bytes_(std::move(begun)), upload_(upload) {}

  ~FakeBlobWriter() override {
    if (done_ || !upload_) return;
    const std::scoped_lock lock(store_.mutex_);
    store_.partials_[upload_->slot] = {std::move(bytes_), store_.clock_.wall_now()};
    store_.uploading_.erase(upload_->slot);
  }

  std::uint64_t offset() const override { return bytes_.size(); }

  Status append(std::span<const std::byte> bytes) override {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return {};
  }

  Result<BlobInfo> commit() override {
    CHECK(!done_);
    done_ = true;
    const Digest digest = sha256(bytes_);
    const std::scoped_lock lock(store_.mutex_);
    if (upload_) {
      store_.uploading_.erase(upload_->slot);
      store_.partials_.erase(upload_->slot);
      if (upload_->expected && *upload_->expected != digest)
        return refuse(reason::kDigestMismatch, "other bytes than promised");
    }
    const BlobInfo info{digest, bytes_.size(), store_.clock_.wall_now()};
    store_.blobs_[digest] = {std::move(bytes_), info.modified};
    return info;
  }

 private:
  FakeBlobStore& store_;
  std::vector<std::byte> bytes_;
  std::optional<Upload> upload_;
  bool done_ = false;
};

Result<std::unique_ptr<BlobWriter>> FakeBlobStore::create() {
  return std::make_unique<FakeBlobWriter>(*this, std::vector<std::byte>{}, std::nullopt);
}

Result<std::unique_ptr<BlobWriter>> FakeBlobStore::resume(const std::optional<Digest>& expected,
                                                          const Digest& slot) {
  const std::scoped_lock lock(mutex_);
  if (!uploading_.insert(slot).second) return refuse(reason::kConflict, "already uploading");
  return std::make_unique<FakeBlobWriter>(*this, partials_[slot].bytes,
                                          FakeBlobWriter::Upload{expected, slot});
}

Result<std::uint64_t> FakeBlobStore::partial_size(const Digest& slot) const {
  const std::scoped_lock lock(mutex_);
  const auto found = partials_.find(slot);
  return found == partials_.end() ? 0 : found->second.bytes.size();
}

Status FakeBlobStore::drop_partial(const Digest& slot) {
  const std::scoped_lock lock(mutex_);
  if (uploading_.contains(slot)) return refuse(reason::kConflict, "already uploading");
  partials_.erase(slot);
  return {};
}

Status FakeBlobStore::visit_all(const Shelf& shelf,
                                const std::function<Status(const BlobInfo&)>& visit) const {
  std::vector<BlobInfo> infos;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& [digest, stored] : shelf) {
      infos.push_back({digest, stored.bytes.size(), stored.modified});
    }
  }
  for (const BlobInfo& info : infos) TRY(visit(info));
  return {};
}

Status FakeBlobStore::for_each_partial(const std::function<Status(const BlobInfo&)>& visit) const {
  return visit_all(partials_, visit);
}

Status FakeBlobStore::for_each(const std::function<Status(const BlobInfo&)>& visit) const {
  return visit_all(blobs_, visit);
}

Result<Fd> FakeBlobStore::open(const Digest& digest) const {
  const std::scoped_lock lock(mutex_);
  const auto found = blobs_.find(digest);
  if (found == blobs_.end()) return fail(Code::NotFound, "no such blob");
  Fd file(::memfd_create("fake-blob", MFD_CLOEXEC));
  if (!file) return fail_errno("memfd_create");
  TRY(write_all(file.get(), found->second.bytes));
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return fail_errno("lseek");
  return file;
}

// Seen through the descriptor that holds it.
Result<BlobFile> FakeBlobStore::file(const Digest& digest) const {
  auto file = std::make_shared<const Fd>(TRY(open(digest)));
  return BlobFile{.path = Path("/proc/self/fd") / std::to_string(file->get()), .hold = file};
}

Result<std::optional<BlobInfo>> FakeBlobStore::find(const Digest& digest) const {
  const std::scoped_lock lock(mutex_);
  const auto found = blobs_.find(digest);
  if (found == blobs_.end()) return std::nullopt;
  return BlobInfo{digest, found->second.bytes.size(), found->second.modified};
}

Status FakeBlobStore::remove(const Digest& digest) {
  const std::scoped_lock lock(mutex_);
  blobs_.erase(digest);
  return {};
}

void FakeBlobStore::corrupt(const Digest& digest, std::string_view bytes) {
  const std::scoped_lock lock(mutex_);
  const auto raw = std::as_bytes(std::span(bytes));
  blobs_.at(digest).bytes.assign(raw.begin(), raw.end());
}

}  // namespace mayfly
