// What every BlobStore must do: run on the fake, on files, and on a store behind S3. Each check is
// given a store of its own, which is empty.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/blob_store.h"

namespace mayfly::blob_contract {

struct Promise {
  const char* sentence;
  void (*check)(BlobStore& store);
};
std::span<const Promise> promises();

// What the checks, and other tests of stores, do.
std::span<const std::byte> bytes_of(std::string_view text);
Digest put(BlobStore& store, std::string_view text);
std::string get(const BlobStore& store, const Digest& digest);
std::vector<Digest> all(const BlobStore& store);

}  // namespace mayfly::blob_contract
