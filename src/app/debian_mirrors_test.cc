#include "app/debian_mirrors.h"

#include <filesystem>

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using Hosts = std::vector<std::string>;

TEST_CASE("hosts of apt's sources are found in either format, with their ports") {
  CHECK(hosts_in_apt_file("# deb http://no.example/debian sid main\n"
                          "deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] "
                          "http://Mirror.Example/debian bookworm main\n"
                          "  deb https://user:word@other.example:8443/d ./\n") ==
        Hosts{"mirror.example:80", "other.example:8443"});
  CHECK(hosts_in_apt_file("Types: deb\n# http://snapshot.example/\n"
                          "URIs: http://a.example/debian https://b.example/x\n"
                          " http://c.example/debian\nSigned-By: /k.gpg\n") ==
        Hosts{"a.example:80", "b.example:443", "c.example:80"});
  CHECK(hosts_in_apt_file("Acquire::http::Proxy \"http://proxy.example:3128/\";\n") ==
        Hosts{"proxy.example:3128"});
  CHECK(hosts_in_apt_file("deb cdrom:[x]/ bookworm main\ndeb file:/srv/debian ./\n").empty());
}

TEST_CASE("only what apt reads counts, and each host once") {
  const auto folder = TempDir::create();
  REQUIRE(folder.has_value());
  const auto write = [&](const char* name, std::string_view text) {
    const Path file = folder->path() / name;
    std::filesystem::create_directories(file.parent_path());
    REQUIRE(write_file_durably(file, text).has_value());
  };
  CHECK(debian_mirrors(folder->path()).empty());
  write("sources.list", "deb http://a.example/ x main\n");
  write("sources.list.d/b.sources", "URIs: http://b.example/ http://a.example/\n");
  write("sources.list.d/c.list.disabled", "deb http://c.example/ x main\n");
  write("apt.conf.d/99proxy", "Acquire::http::Proxy \"http://p.example:1\";\n");
  CHECK(debian_mirrors(folder->path()) == Hosts{"a.example:80", "b.example:80", "p.example:1"});
}

}  // namespace
}  // namespace mayfly
