#include "net/egress_policy.h"

#include <string>
#include <utility>

#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

IpAddress ip(std::string_view text) {
  const auto parsed = parse_ip(text);
  REQUIRE_MESSAGE(parsed.has_value(), std::string(text));
  return *parsed;
}

WebUrl url(std::string_view text) { return parse_web_url(text).value(); }

bool may(const EgressPolicy& policy, std::string_view to, std::string_view address) {
  return policy.check(url(to), ip(address), {}).has_value();
}

}  // namespace

TEST_CASE("without a setting only what is anybody's on the internet may be asked, over https") {
  const EgressPolicy policy;
  for (const char* address :
       {"1.1.1.1",         "8.8.8.8",        "9.255.255.255",       "11.0.0.0",
        "100.63.255.255",  "100.128.0.0",    "126.255.255.255",     "128.0.0.1",
        "169.253.255.255", "169.255.0.0",    "172.15.255.255",      "172.32.0.0",
        "192.167.255.255", "192.169.0.0",    "198.17.255.255",      "198.20.0.0",
        "223.255.255.255", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1",    "2002:101:101::1",
        "2606:4700::1111", "2a00:1450::1",   "2001:4860:4860::8888"}) {
    CAPTURE(address);
    CHECK(may(policy, "https://a.example/", address));
    CHECK_FALSE(may(policy, "http://a.example/", address));
  }
  for (const char* address : {"0.0.0.0",
                              "0.1.2.3",
                              "10.0.0.0",
                              "10.255.255.255",
                              "100.64.0.0",
                              "100.127.255.255",
                              "127.0.0.1",
                              "127.255.255.255",
                              "169.254.0.1",
                              "169.254.169.254",
                              "172.16.0.0",
                              "172.31.255.255",
                              "192.0.0.8",
                              "192.0.2.1",
                              "192.88.99.1",
                              "192.168.0.1",
                              "198.18.0.1",
                              "198.19.255.255",
                              "198.51.100.1",
                              "203.0.113.1",
                              "224.0.0.1",
                              "239.255.255.255",
                              "240.0.0.1",
                              "255.255.255.255",
                              "::",
                              "::1",
                              "::127.0.0.1",
                              "::ffff:127.0.0.1",
                              "::ffff:169.254.169.254",
                              "::ffff:10.1.2.3",
                              "64:ff9b::127.0.0.1",
                              "64:ff9b::169.254.169.254",
                              "64:ff9b:1::1",
                              "100::1",
                              "2001::1",
                              "2001:db8::1",
                              "2002:7f00:1::",
                              "2002:a9fe:a9fe::1",
                              "2002:c0a8:1::1",
                              "3fff::1",
                              "4000::1",
                              "5f00::1",
                              "fc00::1",
                              "fd00::1",
                              "fe80::1",
                              "fec0::1",
                              "ff02::1"}) {
    CAPTURE(address);
    const Status refused = policy.check(url("https://a.example/"), ip(address), {});
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == Code::PermissionDenied);
    CHECK(refused.error().message.contains("[egress] allow"));
  }
}

TEST_CASE("the node's own addresses are not asked, however they are written") {
  const EgressPolicy policy;
  const std::vector<IpAddress> own = {ip("5.6.7.8"), ip("2606::1")};
  for (const char* address :
       {"5.6.7.8", "::ffff:5.6.7.8", "64:ff9b::5.6.7.8", "2002:506:708::1", "2606::1"}) {
    CAPTURE(address);
    CHECK_FALSE(policy.check(url("https://a.example/"), ip(address), own).has_value());
    CHECK(policy.check(url("https://a.example/"), ip(address), {}).has_value());
  }
  const EgressPolicy allowing = EgressPolicy::parse({"5.6.7.8:9000"}).value();
  CHECK(allowing.check(url("http://a.example:9000/"), ip("5.6.7.8"), own).has_value());
}

TEST_CASE("what the operator allows may be asked, over http too, and nothing beside it") {
  const EgressPolicy policy =
      EgressPolicy::parse({"10.0.0.0/8", "127.0.0.1:9000", "Hooks.internal:8080", "printer",
                           "[::1]:9000", "fd00:1::/32", "192.168.1.7"})
          .value();
  CHECK(may(policy, "https://a.example/", "10.255.0.1"));
  CHECK(may(policy, "http://a.example:1234/", "10.0.0.1"));
  CHECK_FALSE(may(policy, "https://a.example/", "11.0.0.1") ==
              may(policy, "http://a.example/", "11.0.0.1"));
  CHECK(may(policy, "http://127.0.0.1:9000/", "127.0.0.1"));
  CHECK_FALSE(may(policy, "http://127.0.0.1:9001/", "127.0.0.1"));
  CHECK_FALSE(may(policy, "http://127.0.0.2:9000/", "127.0.0.2"));
  CHECK(may(policy, "http://hooks.internal:8080/", "192.168.3.3"));
  CHECK_FALSE(may(policy, "http://hooks.internal/", "192.168.3.3"));
  CHECK_FALSE(may(policy, "http://x.hooks.internal:8080/", "192.168.3.3"));
  CHECK(may(policy, "https://printer:631/", "192.168.3.3"));
  CHECK(may(policy, "http://[::1]:9000/", "::1"));
  CHECK_FALSE(may(policy, "http://[::1]/", "::1"));
  CHECK(may(policy, "http://a.example/", "fd00:1:2::3"));
  CHECK_FALSE(may(policy, "http://a.example/", "fd00:2::3"));
  CHECK(may(policy, "https://a.example:5/", "192.168.1.7"));
  CHECK_FALSE(may(policy, "https://a.example/", "192.168.1.8"));
}

TEST_CASE("what no address could make right is refused before it is resolved") {
  const EgressPolicy nothing;
  CHECK(nothing.check_url(url("https://a.example/")).has_value());
  CHECK_FALSE(nothing.check_url(url("http://a.example/")).has_value());
  CHECK_FALSE(nothing.check_url(url("https://127.0.0.1/")).has_value());
  CHECK_FALSE(nothing.check_url(url("https://[::ffff:10.0.0.1]/")).has_value());
  const EgressPolicy some = EgressPolicy::parse({"10.0.0.0/8", "hooks:80", "::1"}).value();
  CHECK(some.check_url(url("http://a.example/")).has_value());  // it may be within 10.0.0.0/8
  CHECK(some.check_url(url("http://hooks/")).has_value());
  CHECK(some.check_url(url("http://[::1]:7/")).has_value());
  CHECK_FALSE(some.check_url(url("http://127.0.0.1/")).has_value());
  CHECK_FALSE(
      EgressPolicy::parse({"hooks:80"}).value().check_url(url("http://hooks:81/")).has_value());
}

TEST_CASE("what is no place is an error that names it") {
  for (const std::string text :
       {"", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/x", "fd00::/129", "a b", "a:0",
        "a:70000", "a/b", "https://a", "u@a", "[::1", "127.1", "*.example", "a:"}) {
    CAPTURE(text);
    const auto policy = EgressPolicy::parse({text});
    REQUIRE_FALSE(policy.has_value());
    CHECK(policy.error().reason == reason::kInvalidSetting);
  }
  CHECK(EgressPolicy::parse({"0.0.0.0/0", "::/0", "a.b:443", "10.0.0.0/8"}).has_value());
  const EgressPolicy all = EgressPolicy::parse({"0.0.0.0/0"}).value();
  CHECK(may(all, "http://a.example/", "127.0.0.1"));
  CHECK_FALSE(may(all, "http://a.example/", "::1"));
  const EgressPolicy tls_port = EgressPolicy::parse({"a.b:443"}).value();
  CHECK_FALSE(may(tls_port, "http://a.b/", "127.0.0.1"));
}
