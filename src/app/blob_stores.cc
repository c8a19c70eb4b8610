#include "app/blob_stores.h"

#include <fmt/format.h>

#include <utility>

#include "core/reason.h"
#include "remote/blob_origin.h"
#include "remote/s3_blob_store.h"
#include "store/local_blob_store.h"

namespace mayfly {
namespace {

Result<std::unique_ptr<S3Client>> make_client(const Config& config, Rng& rng) {
  S3Address address = TRY(parse_s3_address(config.store_s3));
  S3Place place = TRY(S3Place::create({.endpoint = config.store_s3_endpoint,
                                       .region = config.store_s3_region,
                                       .addressing = config.store_s3_addressing},
                                      std::move(address.bucket)));
  S3Client::World world{
      .credentials = [file = config.store_s3_credentials] { return read_s3_credentials(file); }};
  TRY(world.credentials());
  return S3Client::create(std::move(place), std::move(world), {.ca = config.store_s3_ca}, rng);
}

// "s3://bucket/a/" and "s3://bucket/a" are one place.
Result<std::string> prefix_of(const Config& config, const std::string& name) {
  std::string prefix = TRY(parse_s3_address(config.store_s3)).key;
  while (prefix.ends_with('/')) prefix.pop_back();
  return prefix.empty() ? name + "/" : fmt::format("{}/{}/", prefix, name);
}

}  // namespace

Result<std::unique_ptr<S3Client>> object_store(const Config& config, Rng& rng) {
  if (config.store_s3.empty()) return nullptr;
  auto client = make_client(config, rng);
  if (!client) return std::unexpected(std::move(client).error().in("store.s3"));
  return client;
}

Result<std::unique_ptr<BlobStore>> open_blobs(const Config& config, S3Client* client,
                                              const BlobPlace& place, Rng& rng) {
  if (client == nullptr) {
    TRY(check_blobs_are_here(place.root));
    return TRY(LocalBlobStore::open(place.root, place.tmp));
  }
  S3BlobStore::Options options{.root = place.root,
                               .tmp = place.tmp,
                               .prefix = TRY(prefix_of(config, place.name)),
                               .cache = config.store_cache};
  if (place.pins != nullptr) {
    options.pinned = [pins = place.pins](const Digest& digest) { return pins->is_pinned(digest); };
  }
  auto store = S3BlobStore::open(*client, std::move(options), rng);
  if (!store) return std::unexpected(std::move(store).error().in("store.s3"));
  return *std::move(store);
}

}  // namespace mayfly
