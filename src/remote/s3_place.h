// Where something lies in an S3-compatible store, as text and as a request's address. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "net/http_client.h"

namespace mayfly {

// "s3://bucket/some/key": of a bucket, `key` may be empty.
struct S3Address {
  std::string bucket;
  std::string key;  // without a slash in front
  std::string text() const { return "s3://" + bucket + "/" + key; }
  bool operator==(const S3Address&) const = default;
};
// invalid_setting: not that form, a bucket no store would have, or a key with control characters.
Result<S3Address> parse_s3_address(std::string_view text);

// Where the bucket's name stands: https://host/bucket/key or https://bucket.host/key.
enum class S3Addressing : std::uint8_t { Path, Virtual };

// What answers for a bucket.
struct S3Service {
  std::string endpoint = {};  // "https://minio.internal:9000"; empty: Amazon's of the region
  std::string region = "us-east-1";
  S3Addressing addressing = S3Addressing::Path;
};

using S3Query = std::vector<std::pair<std::string, std::string>>;  // not encoded

// A request's address: what is connected to, the Host header, and the path as it is signed.
struct S3Target {
  Url server;
  std::string host;
  std::string path;
};

class S3Place {
 public:
  // invalid_setting: an endpoint that is no http(s)://host[:port], or a region that is none.
  static Result<S3Place> create(const S3Service& service, std::string bucket);

  S3Target target(std::string_view key) const;  // "": the bucket itself
  const std::string& bucket() const { return bucket_; }
  const std::string& region() const { return region_; }
  const std::string& endpoint() const { return endpoint_.text; }

 private:
  S3Place(Url endpoint, std::string region, S3Addressing addressing, std::string bucket)
      : endpoint_(std::move(endpoint)),
        region_(std::move(region)),
        addressing_(addressing),
        bucket_(std::move(bucket)) {}
  Url endpoint_;
  std::string region_;
  S3Addressing addressing_;
  std::string bucket_;
};

// Everything but A-Z a-z 0-9 - . _ ~ as %XX; with Slashes::Stay also "/" as it is (AWS's
// UriEncode).
enum class Slashes : std::uint8_t { Encoded, Stay };
std::string s3_encode(std::string_view text, Slashes slashes);

// "a=1&b=%2F", sorted as it is signed.
std::string s3_query_text(const S3Query& query);

}  // namespace mayfly
