#include "gateway/route.h"

#include "gateway/guard.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("paths name endpoints, functions and versions") {
  const auto infer = find_route("POST", "/v2/models/fraud/versions/3/infer");
  REQUIRE(infer.route.has_value());
  CHECK(infer.route->endpoint == Endpoint::Infer);
  CHECK(infer.route->name == "fraud");
  CHECK(infer.route->version == "3");
  CHECK(find_route("POST", "/v2/models/fraud%403/infer").route->name == "fraud@3");
  CHECK(find_route("POST", "/v1/models/fraud/labels/champion:predict").route->name ==
        "fraud@champion");
  CHECK(find_route("GET", "/v2/").route->endpoint == Endpoint::ServerMetadata);
  CHECK(find_route("GET", "/v2/models/stats").route->endpoint == Endpoint::ModelStatistics);
  CHECK(find_route("HEAD", "/metrics").route->endpoint == Endpoint::Metrics);
  CHECK(find_route("HEAD", "/api/v1/blobs/abc").route->endpoint == Endpoint::BlobState);
}

TEST_CASE("a verb follows a name or a version after a colon") {
  const auto predict = find_route("POST", "/v1/models/fraud@3:predict");
  REQUIRE(predict.route.has_value());
  CHECK(predict.route->endpoint == Endpoint::TfPredict);
  CHECK(predict.route->name == "fraud@3");
  const auto version = find_route("POST", "/v1/models/fraud/versions/3:predict");
  REQUIRE(version.route.has_value());
  CHECK(version.route->endpoint == Endpoint::TfPredict);
  CHECK(version.route->name == "fraud");
  CHECK(version.route->version == "3");
  CHECK(find_route("POST", "/v1/models/fraud:regress").route->endpoint == Endpoint::TfUnsupported);
  CHECK(find_route("GET", "/v1/models/fraud").route->endpoint == Endpoint::TfModelStatus);
  CHECK(find_route("GET", "/v1/models/fraud/metadata").route->endpoint ==
        Endpoint::TfModelMetadata);
  CHECK(find_route("GET", "/v1/models/fraud:predict").error == RouteError::WrongMethod);
  CHECK(find_route("GET", "/v1/models/fraud:predict").allowed == "POST");
  for (const char* path :
       {"/v1/models/:predict", "/v1/models/fraud:train", "/v1/models/a:b:predict",
        "/v1/models/fraud/versions/:predict", "/v2/models/fraud:predict/infer"}) {
    CHECK_FALSE(find_route("POST", path).route.has_value());
    CHECK(find_route("POST", path).error == RouteError::NoSuchPath);
  }
}

TEST_CASE("an unknown path is not found, a known one with another method says which it allows") {
  CHECK(find_route("GET", "/nothing").error == RouteError::NoSuchPath);
  CHECK(find_route("GET", "//v2").error == RouteError::NoSuchPath);
  CHECK(find_route("GET", "").error == RouteError::NoSuchPath);
  CHECK(find_route("POST", "/v2/models//infer").error == RouteError::NoSuchPath);
  const auto wrong = find_route("PUT", "/api/v1/functions/x/versions");
  CHECK(wrong.error == RouteError::WrongMethod);
  CHECK(wrong.allowed == "GET, POST");
}

TEST_CASE("control endpoints are those that change or reveal the node") {
  CHECK(is_control(Endpoint::Deploy));
  CHECK(is_control(Endpoint::Metrics));
  CHECK_FALSE(is_control(Endpoint::Infer));
  CHECK_FALSE(is_control(Endpoint::ModelMetadata));
  CHECK_FALSE(is_control(Endpoint::TfPredict));
  CHECK_FALSE(is_control(Endpoint::TfUnsupported));
}

TEST_CASE("Host must be loopback or configured") {
  const GuardPolicy policy{.hosts = {"ml.example", "10.0.0.5"}, .cors_origins = {}};
  for (const char* good : {"localhost", "localhost:8080", "127.0.0.1:1", "127.1.2.3", "[::1]:8080",
                           "LOCALHOST", "x.localhost", "ml.example:80", "10.0.0.5", ""}) {
    CHECK(check_host(policy, good).has_value());
  }
  for (const char* bad : {"evil.example", "127.0.0.1.evil.example", "localhost.evil.example",
                          "127.evil", "[::2]", "10.0.0.50"}) {
    CHECK_FALSE(check_host(policy, bad).has_value());
  }
}

TEST_CASE("control requests from foreign pages are refused") {
  const GuardPolicy policy{.hosts = {}, .cors_origins = {"https://app.example"}};
  CHECK(check_origin(policy, "", "localhost:8080").has_value());
  CHECK(check_origin(policy, "http://localhost:8080", "localhost:8080").has_value());
  CHECK(check_origin(policy, "https://app.example", "localhost:8080").has_value());
  for (const char* bad :
       {"http://evil.example", "http://localhost:9090", "null", "localhost:8080"}) {
    CHECK_FALSE(check_origin(policy, bad, "localhost:8080").has_value());
  }
  CHECK(cors_origin(policy, "https://app.example") == "https://app.example");
  CHECK(cors_origin(policy, "https://other.example").empty());
}
