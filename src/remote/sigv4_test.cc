// The examples of AWS's own documentation, byte for byte:
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
#include "remote/sigv4.h"

#include <string>

#include "remote/s3_place.h"
#include "remote/s3_reply.h"
#include "store/digest.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

const S3Credentials kExample{.id = "AKIAIOSFODNN7EXAMPLE",
                             .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                             .token = ""};

std::string signature_of(const SigV4Request& request) {
  const Headers headers =
      sign_v4(request, kExample, "us-east-1", parse_s3_time("2013-05-24T00:00:00Z").value());
  const std::string authorization(headers.find("Authorization").value());
  CHECK(authorization.starts_with(
      "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"));
  return authorization.substr(authorization.find("Signature=") + 10);
}

const std::string kEmpty = to_string(sha256(""));

}  // namespace

TEST_CASE("a signature is what Amazon's documentation says: an object's beginning is read") {
  CHECK(
      signature_of({.method = "GET",
                    .path = "/test.txt",
                    .query = "",
                    .headers = {{"Host", "examplebucket.s3.amazonaws.com"}, {"Range", "bytes=0-9"}},
                    .sha256 = kEmpty}) ==
      "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

TEST_CASE("a signature is what Amazon's documentation says: an object is written") {
  const std::string body = "Welcome to Amazon S3.";
  const std::string hash = to_string(sha256(body));
  const std::string path = "/" + s3_encode("test$file.text", Slashes::Stay);
  CHECK(path == "/test%24file.text");
  CHECK(signature_of({.method = "PUT",
                      .path = path,
                      .query = "",
                      .headers = {{"Date", "Fri, 24 May 2013 00:00:00 GMT"},
                                  {"Host", "examplebucket.s3.amazonaws.com"},
                                  {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
                      .sha256 = hash}) ==
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

TEST_CASE("a signature is what Amazon's documentation says: a bucket's settings and its list") {
  const Headers host{{"Host", "examplebucket.s3.amazonaws.com"}};
  CHECK(signature_of({.method = "GET",
                      .path = "/",
                      .query = s3_query_text({{"lifecycle", ""}}),
                      .headers = host,
                      .sha256 = kEmpty}) ==
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
  CHECK(signature_of({.method = "GET",
                      .path = "/",
                      .query = s3_query_text({{"prefix", "J"}, {"max-keys", "2"}}),
                      .headers = host,
                      .sha256 = kEmpty}) ==
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

TEST_CASE("the token of a session is sent and signed, the secret is not sent") {
  const S3Credentials session{.id = "ID", .secret = "hidden", .token = "session+token/="};
  const Headers headers = sign_v4(
      {.method = "GET", .path = "/", .query = "", .headers = {{"Host", "h"}}, .sha256 = kEmpty},
      session, "eu-central-1", parse_s3_time("2024-01-02T03:04:05Z").value());
  CHECK(headers.find("x-amz-security-token") == "session+token/=");
  CHECK(headers.find("Authorization")
            ->find("host;x-amz-content-sha256;x-amz-date;"
                   "x-amz-security-token") != std::string_view::npos);
  for (std::size_t i = 0; i < headers.size(); ++i)
    CHECK(headers[i].value.find("hidden") == std::string_view::npos);
}

}  // namespace mayfly
