#include "publish/environment_store.h"

#include <sys/stat.h>
#include <unistd.h>

#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

constexpr const char* kLock = "six==1.16.0 --hash=sha256:00\n";
const std::string kRequest(64, 'e');
const EnvironmentStore::For kWho{"default", kRequest};

struct Disk {
  TempDir folder = TempDir::create().value();
  EnvironmentStore store{folder.path() / "environments"};
  int made = 0;

  // What a job left: name → content.
  Path installed(const std::vector<std::pair<std::string, std::string>>& files) {
    const Path path = folder.path() / ("installed" + std::to_string(++made));
    REQUIRE(make_directories(path).has_value());
    for (const auto& [name, content] : files) {
      REQUIRE(make_directories((path / name).parent_path()).has_value());
      REQUIRE(write_file_durably(path / name, content).has_value());
    }
    return path;
  }
};

}  // namespace

TEST_CASE("what was installed is found by what asked for it, and belongs to the server") {
  Disk disk;
  CHECK(!disk.store.find(kRequest).value());
  const Path installed = disk.installed({{"six.py", "x = 1"}, {"a/b/c.py", ""}});
  const auto made = disk.store.install(kWho, installed, kLock);
  REQUIRE_MESSAGE(made.has_value(), made.error().message);
  CHECK(disk.store.find(kRequest).value() == *made);
  CHECK(made->lock == kLock);
  CHECK(disk.store.has(made->digest));
  struct stat info{};
  REQUIRE(::stat((disk.store.folder(made->digest) / "six.py").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0444);
  REQUIRE(::stat((disk.store.folder(made->digest) / "a").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0755);
}

TEST_CASE("the digest is of the files, and not of their bytecode") {
  Disk disk;
  const auto digest = [&](const std::vector<std::pair<std::string, std::string>>& files) {
    return disk.store.install(kWho, disk.installed(files), kLock)->digest;
  };
  const std::string plain = digest({{"six.py", "x = 1"}});
  CHECK(digest({{"six.py", "x = 1"}, {"__pycache__/six.pyc", "anything"}}) == plain);
  CHECK(digest({{"six.py", "x = 2"}}) != plain);
  CHECK(digest({{"seven.py", "x = 1"}}) != plain);
  const Path others = disk.installed({{"six.py", "x = 1"}});
  CHECK(disk.store.install({"team", kRequest}, others, kLock)->digest != plain);
}

TEST_CASE("links and pipes are not taken") {
  Disk disk;
  const auto refused = [&](const Path& installed) {
    const auto made = disk.store.install(kWho, installed, kLock);
    return made ? std::string("taken") : std::string(made.error().reason);
  };
  const Path linked = disk.installed({{"a.py", ""}});
  REQUIRE(::symlink("/etc/passwd", (linked / "b.py").c_str()) == 0);
  CHECK(refused(linked) == reason::kPublishFailed);
  const Path hard = disk.installed({{"a.py", ""}});
  REQUIRE(::link((hard / "a.py").c_str(), (hard / "b.py").c_str()) == 0);
  CHECK(refused(hard) == reason::kPublishFailed);
  const Path piped = disk.installed({{"a.py", ""}});
  REQUIRE(::mkfifo((piped / "pipe").c_str(), 0600) == 0);
  CHECK(refused(piped) == reason::kPublishFailed);
  const Path folder = disk.installed({{"a.py", ""}});
  const Path instead = disk.folder.path() / "instead";
  REQUIRE(::symlink(folder.c_str(), instead.c_str()) == 0);
  CHECK(refused(instead) != "taken");
  CHECK(!disk.store.find(kRequest).value());
}

TEST_CASE("a digest that is none leads nowhere") {
  Disk disk;
  CHECK(!disk.store.has("../../etc"));
  CHECK(!disk.store.has(""));
}

TEST_CASE("requirements and the wheels beside them say what an environment holds") {
  const std::string sha(64, 'a');
  const std::vector<ArtifactFile> files = {
      {"function.py", sha, 1}, {"requirements.txt", sha, 1}, {"wheels/six.whl", sha, 1}};
  CHECK(requirement_files(files).size() == 2);
  CHECK(requirement_files({files[0], files[2]}).empty());
  CHECK(requirement_files({files[0], {"pyproject.toml", sha, 1}, files[2]}).size() == 2);
  CHECK(requirement_files({files[0], {"docs/pyproject.toml", sha, 1}}).empty());
  const std::string key = environment_request("default", requirement_files(files));
  CHECK(key == environment_request("default", requirement_files(files)));
  CHECK(key != environment_request("default", requirement_files({files[0], files[1]})));
}
