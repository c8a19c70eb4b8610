#include "publish/source_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <set>

#include "core/reason.h"
#include "publish/taken_file.h"

namespace mayfly {
namespace {

constexpr auto kFolderMode = 0755;
constexpr mode_t kReadable = S_IRUSR | S_IRGRP | S_IROTH;

Status copy_file_of(const Path& blob, const Path& target) {
  std::error_code error;
  std::filesystem::copy_file(blob, target, error);
  if (error) return std::unexpected(errno_error("copy a blob", error.value()));
  if (::chmod(target.c_str(), 0444) != 0) return fail_errno("chmod");
  return {};
}

// A link when the blob can be read by the jail's id as it is: changing the mode of a link would
// change the blob's.
Status place(const SourceFile& source, const Path& target) {
  const auto digest = parse_digest(source.file.sha256);
  if (!digest) return fail(Code::DataLoss, "its digest is none");
  const BlobFile blob = TRY(source.blobs->file(*digest));
  struct stat status{};
  if (::stat(blob.path.c_str(), &status) != 0) return fail_errno(source.file.path);
  const bool readable = (status.st_mode & kReadable) == kReadable;
  if (readable && ::link(blob.path.c_str(), target.c_str()) == 0) return {};
  return copy_file_of(blob.path, target);
}

// What a disk has lost since the upload is not compiled.
Status check_bytes(const SourceFile& source, const Path& folder) {
  const Fd file = TRY(open_file(folder / source.file.path, O_RDONLY | O_NOFOLLOW));
  if (TRY(hash_file(file.get())) == source.file.sha256) return {};
  return refuse(reason::kDigestMismatch,
                fmt::format("'{}': the node's copy does not have the bytes {} any more; the scrub "
                            "removes it, then upload it again",
                            source.file.path, source.file.sha256));
}

}  // namespace

Status make_folder(const Path& path) {
  TRY(make_directories(path));
  if (::chmod(path.c_str(), kFolderMode) != 0) return fail_errno(path.native());
  return {};
}

Result<SourceFolder> SourceFolder::create(const Path& tmp, const std::vector<SourceFile>& files) {
  SourceFolder folder(TRY(TempDir::create(tmp)));
  TRY(make_folder(folder.work()));
  TRY(lay_out(files, folder.source()));
  for (const SourceFile& source : files) TRY(check_bytes(source, folder.source()));
  return folder;
}

Status lay_out(const std::vector<SourceFile>& files, const Path& folder) {
  TRY(make_folder(folder));
  std::set<Path> made;
  for (const SourceFile& source : files) {
    TRY(check_artifact_path(source.file.path));
    Path parent = folder;
    const Path inside(source.file.path);
    for (const Path& component : inside.parent_path()) {
      parent /= component;
      if (made.insert(parent).second) TRY(make_folder(parent));
    }
    auto placed = place(source, folder / inside);
    if (!placed) {
      return std::unexpected(
          std::move(placed).error().in(fmt::format("lay out '{}'", source.file.path)));
    }
  }
  return {};
}

}  // namespace mayfly
