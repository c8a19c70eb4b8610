#include "core/destination.h"

#include <string>

#include "core/reason.h"
#include "core/settings.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("a URL is read as it is sent, and shown without its query") {
  const WebUrl url = parse_web_url("https://Hooks.Example:8443/in/a?token=b").value();
  CHECK(url.tls);
  CHECK(url.host == "hooks.example");
  CHECK(url.port == 8443);
  CHECK(url.target == "/in/a?token=b");
  CHECK(url.authority() == "hooks.example:8443");
  CHECK(url.shown() == "https://hooks.example:8443/in/a");
  CHECK(parse_web_url("https://a").value().target == "/");
  CHECK(parse_web_url("https://a?x").value().target == "/?x");
  CHECK(parse_web_url("https://a:443/").value().authority() == "a");
  CHECK(parse_web_url("http://a").value().port == 80);
  CHECK(parse_web_url("http://[::1]:81/x").value().host == "::1");
  CHECK(parse_web_url("http://[::1]:81/x").value().authority() == "[::1]:81");
  CHECK(parse_web_url("https://10.0.0.1/").value().host == "10.0.0.1");
  CHECK(parse_web_url("https://a_b.example./x").has_value());
}

TEST_CASE("what is no URL, or more than one may write into settings, is refused") {
  for (const std::string text : {"ftp://a/",
                                 "HTTPS://a/",
                                 "https:/a",
                                 "https://",
                                 "https:///x",
                                 "https://a:0/",
                                 "https://a:65536/",
                                 "https://a:x/",
                                 "https://a:/",
                                 "https://u:p@a/",
                                 "https://u@a/",
                                 "https://a/#x",
                                 "https://a b/",
                                 "https://a/\r\nHost: b",
                                 "https://a/\xc3\xa4",
                                 "https://[::1/",
                                 "https://[fe80::1%25eth0]/",
                                 "https://[::1]x/",
                                 "https://127.1/",
                                 "https://2130706433/",
                                 "https://0x7f.0.0.1/",
                                 "https://0x7f000001/",
                                 "https://0177.0.0.01/",
                                 "https://1.2.3.4./",
                                 "https://a..b/",
                                 "https://.a/",
                                 "https://a%2eb/",
                                 "https://a\\@b/"}) {
    CAPTURE(text);
    REQUIRE_FALSE(parse_web_url(text).has_value());
    CHECK(parse_web_url(text).error().reason == reason::kInvalidSetting);
  }
  CHECK(parse_web_url("https://a/" + std::string(kLongestUrl - 10, 'x')).has_value());
  CHECK_FALSE(parse_web_url("https://a/" + std::string(kLongestUrl - 9, 'x')).has_value());
  CHECK_FALSE(parse_web_url("https://" + std::string(64, 'a') + "/").has_value());
}

TEST_CASE("a destination is a URL or a function") {
  CHECK(parse_destination("function:next").value().function == "next");
  CHECK(parse_destination("function:next").value().host() == "function:next");
  CHECK(parse_destination("https://a:8443/x?y").value().host() == "https://a:8443");
  CHECK(parse_destination("https://a:8443/x?y").value().shown() == "https://a:8443/x");
  for (const std::string text : {"next", "function:", "function:Next", "function:team/next",
                                 "function:next@2", "mailto:a@b"}) {
    CAPTURE(text);
    CHECK(parse_destination(text).error().reason == reason::kInvalidSetting);
  }
}

TEST_CASE("settings name destinations, and keep none that is wrong") {
  const FunctionSettings settings =
      apply_settings({}, R"({"on_success":"function:next","on_failure":"https://a/x"})").value();
  CHECK(settings.on_success == "function:next");
  CHECK(parse_settings(to_json(settings)).value() == settings);
  CHECK(apply_settings(settings, R"({"on_success":""})").value().on_success.empty());
  const auto wrong = apply_settings({}, R"({"on_failure":"https://u:p@a/"})");
  REQUIRE_FALSE(wrong.has_value());
  CHECK(wrong.error().message.contains("on_failure"));
  CHECK(settings_changes_json({"on_success=function:next"}).value() ==
        R"({"on_success":"function:next"})");
}
