// The folders one publish job works in, under tmp/, and gone with the object:
//
//   source/   the artifact's files by their paths: hard links to blobs, readable by everybody
//   work/     empty, the job's own
//
// Blocking: for pools.
#pragma once

#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/manifest.h"
#include "store/blob_store.h"

namespace mayfly {

struct SourceFile {
  ArtifactFile file;
  const BlobStore* blobs = nullptr;  // has its bytes, by their digest; outlives me
};

// Links to the blobs, or copies where they cannot be linked, readable by everybody, in `folder`.
// What a store keeps elsewhere is fetched first.
Status lay_out(const std::vector<SourceFile>& files, const Path& folder);

// A folder that everybody may enter.
Status make_folder(const Path& path);

class SourceFolder {
 public:
  // digest_mismatch: a blob does not have the bytes that it is named after.
  static Result<SourceFolder> create(const Path& tmp, const std::vector<SourceFile>& files);

  Path source() const { return folder_.path() / "source"; }
  Path work() const { return folder_.path() / "work"; }

 private:
  explicit SourceFolder(TempDir folder) : folder_(std::move(folder)) {}
  TempDir folder_;
};

}  // namespace mayfly
