#include "cli/local_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <span>
#include <utility>
#include <vector>

#include "core/reason.h"
#include "store/digest.h"

namespace mayfly {

Result<LocalFile> local_file(const Path& file, std::string path) {
  struct stat info{};
  if (::lstat(file.c_str(), &info) != 0) return fail_errno(file.native());
  if (S_ISLNK(info.st_mode)) {
    return refuse(
        reason::kInvalidManifest,
        fmt::format("{}: symbolic links are not followed; put the file itself into the folder",
                    file.native()));
  }
  if (!S_ISREG(info.st_mode))
    return refuse(reason::kInvalidManifest, fmt::format("{}: not a file", file.native()));
  return LocalFile{file, std::move(path), static_cast<std::uint64_t>(info.st_size), {}};
}

Result<std::string> digest_of(const LocalFile& local, ProgressLine& progress) {
  const Fd file = TRY(open_file(local.file, O_RDONLY));
  std::vector<std::byte> piece(1 << 20);
  Sha256 hash;
  for (std::uint64_t done = 0;;) {
    const ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got < 0) return fail_errno(local.file.native());
    if (got == 0) return to_string(hash.digest());
    hash.update(std::span(piece).first(static_cast<std::size_t>(got)));
    done += static_cast<std::uint64_t>(got);
    progress.show_bytes(fmt::format("hashing {}", local.path), done, local.size);
  }
}

Status upload_blob(NodeClient& node, const LocalFile& file, ProgressLine& progress) {
  return node.upload(file.sha256, file.size, file.file, [&](std::uint64_t sent) {
    progress.show_bytes(fmt::format("uploading {}", file.path), sent, file.size);
  });
}

}  // namespace mayfly
