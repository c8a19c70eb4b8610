// Addresses, credentials and replies: text in, values out.
#include <string>

#include "core/reason.h"
#include "remote/backoff.h"
#include "remote/blob_origin.h"
#include "remote/s3_credentials.h"
#include "remote/s3_place.h"
#include "remote/s3_reply.h"

#include <doctest/doctest.h>

namespace mayfly {

TEST_CASE("an address in an object store names a bucket and a key") {
  CHECK(parse_s3_address("s3://my.bucket-1/a/b c.csv").value() ==
        S3Address{.bucket = "my.bucket-1", .key = "a/b c.csv"});
  CHECK(parse_s3_address("s3://bucket").value() == S3Address{.bucket = "bucket", .key = ""});
  CHECK(parse_s3_address("s3://bucket/").value().key.empty());
  for (const char* wrong : {"", "s3:/bucket/x", "https://bucket/x", "s3://", "s3://ab/x",
                            "s3://Bucket/x", "s3://buc_ket/x", "s3://a..b/x", "s3://-ab/x",
                            "s3://bucket/a/../b", "s3://bucket/.", "s3://bucket/a\nb"}) {
    CAPTURE(wrong);
    CHECK(parse_s3_address(wrong).error().reason == reason::kInvalidSetting);
  }
  CHECK_FALSE(parse_s3_address("s3://bucket/" + std::string(1025, 'k')).has_value());
}

TEST_CASE("a bucket stands in the path or in the host's name") {
  const auto path = S3Place::create({.endpoint = "http://127.0.0.1:9000"}, "bucket").value();
  CHECK(path.target("a b/ü").path == "/bucket/a%20b/%C3%BC");
  CHECK(path.target("").path == "/bucket");
  CHECK(path.target("x").host == "127.0.0.1:9000");
  const auto host =
      S3Place::create({.region = "eu-central-1", .addressing = S3Addressing::Virtual}, "bucket")
          .value();
  CHECK(host.target("x").host == "bucket.s3.eu-central-1.amazonaws.com");
  CHECK(host.target("x").server.tls);
  CHECK(host.target("").path == "/");
  for (const char* wrong : {"127.0.0.1:9000", "unix:/x", "https://host/path", "ftp://host"}) {
    CHECK(S3Place::create({.endpoint = wrong}, "bucket").error().reason == reason::kInvalidSetting);
  }
  CHECK_FALSE(S3Place::create({.region = "a b"}, "bucket").has_value());
}

TEST_CASE("credentials are read as every S3 tool writes them") {
  const auto read = parse_s3_credentials(
      "# mine\n[other]\naws_access_key_id = X\n[default]\r\naws_access_key_id=AKIA1\n"
      "aws_secret_access_key = a/b+c=\naws_session_token = t\n");
  CHECK(read.value() == S3Credentials{.id = "AKIA1", .secret = "a/b+c=", .token = "t"});
  CHECK(parse_s3_credentials("aws_access_key_id=A\naws_secret_access_key=B").value().token.empty());
  CHECK(parse_s3_credentials("[only]\naws_access_key_id=A\naws_secret_access_key=B").has_value());
  for (const char* wrong :
       {"", "[default]\naws_access_key_id=A", "[default]\naws_secret_access_key=hidden",
        "[a]\naws_access_key_id=A\naws_secret_access_key=hidden\n[b]\nx=y", "hidden",
        "aws_access_key_id=A B\naws_secret_access_key=hidden"}) {
    CAPTURE(wrong);
    const auto refused = parse_s3_credentials(wrong);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().reason == reason::kInvalidSetting);
    CHECK(refused.error().message.find("hidden") == std::string::npos);
  }
}

TEST_CASE("a page of a list is read, and what is none is refused") {
  const auto page = parse_s3_page(
      "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
      "<IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;1</NextContinuationToken>"
      "<Contents><Key>a</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified><Size>7</Size>"
      "</Contents></ListBucketResult>");
  REQUIRE(page.has_value());
  CHECK(page->next == "t&1");
  REQUIRE(page->objects.size() == 1);
  CHECK(page->objects[0].key == "a");
  CHECK(page->objects[0].size == 7);
  CHECK(page->objects[0].modified == parse_s3_time("Mon, 12 Oct 2009 17:50:30 GMT"));
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "<a>";
  for (const std::string& wrong : {
           std::string(),
           std::string("<html>"),
           std::string("<ListBucketResult/><x/>"),
           std::string("<Error><Code>x</Code></Error>"),
           std::string("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"),
           std::string("<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents>"
                       "</ListBucketResult>"),
           std::string("<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>"),
           std::string("<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult/>"),
           deep,
       }) {
    CAPTURE(wrong.substr(0, 100));
    CHECK(parse_s3_page(wrong).error().code == Code::DataLoss);
  }
}

TEST_CASE("a time is one that there can be") {
  CHECK(parse_s3_time("2024-05-06T07:08:09.000Z").has_value());
  CHECK(parse_s3_time("Mon, 06 May 2024 07:08:09 GMT") == parse_s3_time("2024-05-06T07:08:09Z"));
  for (const char* none : {"", "yesterday", "4018-10-06T07:08:09Z", "1969-12-31T23:59:59Z"}) {
    CAPTURE(none);
    CHECK_FALSE(parse_s3_time(none).has_value());
  }
}

TEST_CASE("a store's own words are kept, short and printable") {
  const S3Refusal refusal =
      parse_s3_refusal("<Error><Code>AccessDenied</Code><Message>no&#x1b;[31m\xc2\x9b" +
                       std::string(5000, 'x') + "</Message></Error>");
  CHECK(refusal.code == "AccessDenied");
  CHECK(refusal.message.size() <= 300);
  CHECK(refusal.message.find('\x1b') == std::string::npos);
  CHECK(parse_s3_refusal("").code.empty());
  CHECK(check_s3_completion("<Error><Code>InternalError</Code></Error>")
            .error()
            .message.find("InternalError") != std::string::npos);
  CHECK(check_s3_completion("<CompleteMultipartUploadResult/>").has_value());
}

TEST_CASE("pauses between tries grow, have full jitter and an end") {
  SystemRng rng;
  const RetryPlan plan{.first = std::chrono::milliseconds(100), .longest = std::chrono::seconds(2)};
  Duration shortest = Duration::max();
  for (int i = 0; i < 1000; ++i) {
    CHECK(retry_pause(plan, 1, rng) <= std::chrono::milliseconds(100));
    CHECK(retry_pause(plan, 50, rng) <= std::chrono::seconds(2));
    shortest = std::min(shortest, retry_pause(plan, 4, rng));
  }
  CHECK(shortest < std::chrono::milliseconds(100));  // of up to 800
}

TEST_CASE("where blobs are is written and read back, and nothing else is") {
  const BlobOrigin origin{.address = "s3://bucket/p/", .id = std::string(32, 'a'), .there = true};
  CHECK(parse_blob_origin(to_text(origin)).value() == origin);
  for (const std::string& wrong :
       {std::string(), to_text(origin) + "x", std::string("mayfly-blobs 2\ns3://b/\na\nthere\n")})
    CHECK(parse_blob_origin(wrong).error().code == Code::DataLoss);
}

}  // namespace mayfly
