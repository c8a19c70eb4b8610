// AWS Signature Version 4: who asks an S3-compatible store, and that nobody changed the question.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, whose examples are
// the tests. Pure.
#pragma once

#include <string>
#include <string_view>

#include "base/clock.h"
#include "net/http.h"

namespace mayfly {

// Never logged.
struct S3Credentials {
  std::string id;
  std::string secret;
  std::string token;  // of a session; empty: none
  bool operator==(const S3Credentials&) const = default;
};

struct SigV4Request {
  std::string_view method;
  std::string_view path;    // encoded
  std::string_view query;   // encoded and sorted, without '?'
  Headers headers;          // with Host; all are signed
  std::string_view sha256;  // of the body, in hexadecimal digits
};

// The request's headers and those of the signature, in the order of their names.
Headers sign_v4(const SigV4Request& request, const S3Credentials& credentials,
                std::string_view region, WallTime now);

}  // namespace mayfly
