// What an S3-compatible store answers, from its XML. Foreign bytes: bounded, parsed by Expat, and
// nothing of them is believed but what is asked for. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace mayfly {

struct S3Object {
  std::string key;
  std::uint64_t size = 0;
  WallTime modified{};
  bool operator==(const S3Object&) const = default;
};

struct S3Page {
  std::vector<S3Object> objects;
  std::string next;  // the token that continues; empty: there is no more
};

struct S3Upload {
  std::string key;
  std::string id;
};

// All refuse with DataLoss what is not the document that was asked for.
Result<S3Page> parse_s3_page(std::string_view xml);                    // ListObjectsV2
Result<std::vector<S3Upload>> parse_s3_uploads(std::string_view xml);  // ListMultipartUploads
Result<std::string> parse_s3_upload_id(std::string_view xml);          // CreateMultipartUpload
// CompleteMultipartUpload, which may fail after its status was sent.
Status check_s3_completion(std::string_view xml);

// Code and message of an error's body, in printable characters and not long; empty: it has none.
struct S3Refusal {
  std::string code;
  std::string message;
};
S3Refusal parse_s3_refusal(std::string_view xml);

// "2009-10-12T17:50:30.000Z" and "Mon, 12 Oct 2009 17:50:30 GMT".
std::optional<WallTime> parse_s3_time(std::string_view text);

}  // namespace mayfly
