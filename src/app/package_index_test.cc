#include "app/package_index.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("the host of an index is what may be connected to") {
  CHECK(host_of_index("https://example.org/simple") == "example.org:443");
  CHECK(host_of_index("http://example.org") == "example.org:80");
  CHECK(host_of_index("https://me:pass@mirror.example.org:8443/simple?x") ==
        "mirror.example.org:8443");
  CHECK(host_of_index("https://[::1]/simple") == "[::1]:443");
  CHECK(host_of_index("https://[::1]:81/simple") == "[::1]:81");
  for (const char* url : {"", "ftp://example.org", "file:///wheels", "https://", "example.org"}) {
    CAPTURE(url);
    CHECK(host_of_index(url).empty());
  }
}

TEST_CASE("pip's configuration is read as pip reads it") {
  constexpr const char* kFile =
      "# comment\n[global]\nindex-url = https://a.example/simple \n"
      "[freeze]\nindex-url = https://no.example\n[install]\nno_index: true\n";
  CHECK(pip_setting(kFile, "index-url") == "https://a.example/simple");
  CHECK(pip_setting(kFile, "no-index") == "true");
  CHECK(pip_setting(kFile, "cert").empty());
  CHECK(pip_setting("index-url = https://a.example", "index-url").empty());
}

TEST_CASE("the operator's index wins, with the hosts that he adds") {
  Config config;
  config.index_url = "https://mirror.example/simple";
  config.index_hosts = {"files.example", "files.example:8443"};
  const auto index = package_index(config);
  REQUIRE(index.has_value());
  CHECK(index->url == config.index_url);
  CHECK(index->hosts ==
        std::vector<std::string>{"mirror.example:443", "files.example:443", "files.example:8443"});
  config.index_url = "off";
  CHECK(package_index(config)->url.empty());
  CHECK(package_index(config)->hosts.empty());
  config.index_url = "mirror.example";
  CHECK(!package_index(config).has_value());
}
