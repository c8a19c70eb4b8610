// Where the blobs of a folder really are. ROOT/origin says it as text:
//
//   mayfly-blobs 1
//   s3://bucket/prefix/
//   <id of the data folder, 32 hexadecimal digits>
//   moving | there
//
// "moving": they are being copied to the store, and all of them are here. "there": what is here is
// a cache. The same id stands in the store, so that no two data folders use one prefix: each would
// remove what only the other needs.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "base/rng.h"
#include "remote/s3_client.h"

namespace mayfly {

struct BlobOrigin {
  std::string address;
  std::string id;
  bool there = false;
  bool operator==(const BlobOrigin&) const = default;
};

std::string to_text(const BlobOrigin& origin);
Result<BlobOrigin> parse_blob_origin(std::string_view text);
Result<std::optional<BlobOrigin>> read_blob_origin(const Path& root);
Status write_blob_origin(const Path& root, const BlobOrigin& origin);

// For a node without store.s3. FailedPrecondition: the blobs of `root` are in a store.
Status check_blobs_are_here(const Path& root);

// For a node with one: that the blobs of `root` may be at this address, and whose they are. Writes
// "moving" where nothing is written yet. FailedPrecondition: they are elsewhere.
Result<BlobOrigin> begin_origin(const Path& root, const std::string& address, Rng& rng);

// That PREFIX/owner holds the id; puts it there where there is none. FailedPrecondition: another's.
Status claim_prefix(S3Client& client, const std::string& prefix, const std::string& id);

}  // namespace mayfly
