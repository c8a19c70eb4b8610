// Where the node's bytes are: on its disk, or in an S3-compatible store with the disk as their
// cache.
#pragma once

#include <memory>
#include <string>

#include "app/config.h"
#include "base/rng.h"
#include "registry/pins.h"
#include "remote/s3_client.h"
#include "store/blob_store.h"
#include "store/data_dir.h"

namespace mayfly {

// Null where store.s3 is not set. invalid_setting: what is wrong with it. `rng` outlives it.
Result<std::unique_ptr<S3Client>> object_store(const Config& config, Rng& rng);

struct BlobPlace {
  Path root;
  Path tmp;
  std::string name;      // behind the prefix of store.s3
  Pins* pins = nullptr;  // of what must not be fetched again; null: none
};
// `client`, null or not, and the pins outlive it.
Result<std::unique_ptr<BlobStore>> open_blobs(const Config& config, S3Client* client,
                                              const BlobPlace& place, Rng& rng);

}  // namespace mayfly
