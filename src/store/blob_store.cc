#include "store/blob_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace mayfly {
namespace {

constexpr std::size_t kCopyPiece = std::size_t{256} * 1024;

}  // namespace

Result<BlobInfo> copy_blob(const Digest& digest, const BlobStore& from, BlobWriter& into) {
  const Fd file = TRY(from.open(digest));
  std::vector<std::byte> piece(kCopyPiece);
  while (true) {
    const ssize_t got =
        ::pread(file.get(), piece.data(), piece.size(), static_cast<off_t>(into.offset()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read a blob");
    if (got == 0) break;
    TRY(into.append(std::span(piece).first(static_cast<std::size_t>(got))));
  }
  const BlobInfo copied = TRY(into.commit());
  if (copied.digest == digest) return copied;
  return fail(Code::DataLoss, "blob " + to_string(digest) + " is damaged");
}

}  // namespace mayfly
