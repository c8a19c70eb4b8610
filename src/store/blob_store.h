// Bytes named by their SHA-256. A blob that can be opened is whole: its bytes hash to its name,
// also after a kill or a power cut in the middle of a write. Blobs never change, only appear and
// disappear. All methods block; they are safe to call from several threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"
#include "store/digest.h"

namespace mayfly {

struct BlobInfo {
  Digest digest;
  std::uint64_t size = 0;
  WallTime modified{};  // when it appeared; for garbage collection's grace
};

// A blob's file on this machine, for links and mounts. It stays there while `hold` lives, which is
// not for long: what works with it links it.
struct BlobFile {
  Path path;
  std::shared_ptr<const void> hold;
};

// Bytes on their way into the store: appended in order, hashed as they pass, never held whole in
// memory. One thread at a time. A failed writer stays failed.
class BlobWriter {
 public:
  virtual ~BlobWriter() = default;
  virtual std::uint64_t offset() const = 0;  // bytes taken so far, those of earlier tries included
  virtual Status append(std::span<const std::byte> bytes) = 0;
  // Durable when it returns. Once only. digest_mismatch: the upload promised other bytes; what came
  // is dropped.
  virtual Result<BlobInfo> commit() = 0;
};

class BlobStore {
 public:
  virtual ~BlobStore() = default;

  // A blob whose digest nobody knows yet; forgotten unless committed.
  virtual Result<std::unique_ptr<BlobWriter>> create() = 0;

  // An upload kept under `slot`: those who must not learn of each other's uploads have different
  // ones. Uncommitted bytes stay, and the next resume() continues at their end, also after a
  // restart. `expected`: the blob's digest; nullopt where nobody knows it, so that whoever goes on
  // vouches for what is there. conflict: somebody else is uploading it now.
  virtual Result<std::unique_ptr<BlobWriter>> resume(const std::optional<Digest>& expected,
                                                     const Digest& slot) = 0;
  Result<std::unique_ptr<BlobWriter>> resume(const Digest& expected) {
    return resume(expected, expected);
  }
  virtual Result<std::uint64_t> partial_size(const Digest& slot) const = 0;  // 0: none
  virtual Status drop_partial(const Digest& slot) = 0;  // absent is fine; conflict: in use
  virtual Status for_each_partial(const std::function<Status(const BlobInfo&)>& visit) const = 0;

  virtual Result<Fd> open(const Digest& digest) const = 0;        // for reading; NotFound
  virtual Result<BlobFile> file(const Digest& digest) const = 0;  // NotFound
  // Whether its bytes lie on this machine, so that nothing is fetched to read them.
  virtual bool is_here(const Digest& digest) const {
    return find(digest).value_or(std::nullopt).has_value();
  }
  virtual Result<std::optional<BlobInfo>> find(const Digest& digest) const = 0;
  // A blob of another store becomes one of this too, linked where both allow it. NotFound.
  virtual Result<BlobInfo> adopt(const Digest& digest, const BlobStore& from) = 0;
  virtual Status remove(const Digest& digest) = 0;  // absent is fine; open descriptors keep reading
  // In no order; blobs that come or go meanwhile may be missed.
  virtual Status for_each(const std::function<Status(const BlobInfo&)>& visit) const = 0;
};

// What `adopt` does where nothing can be linked.
Result<BlobInfo> copy_blob(const Digest& digest, const BlobStore& from, BlobWriter& into);

}  // namespace mayfly
