#include "base/remove_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

constexpr uid_t kOrdinary = 65534;

// Runs `body` as an ordinary user, whom permissions stop; whether it said yes.
bool as_ordinary_user(const std::function<bool()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    const bool ordinary = ::geteuid() != 0 || ::setresuid(kOrdinary, kOrdinary, kOrdinary) == 0;
    ::_exit(ordinary && body() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// A folder that everybody may write in.
TempDir open_ground() {
  TempDir ground = TempDir::create().value();
  std::filesystem::permissions(ground.path(), std::filesystem::perms(0777));
  return ground;
}

// top/d/d/d… with a file at each level.
bool make_deep(const Path& top, int levels) {
  if (::mkdir(top.c_str(), 0700) != 0) return false;
  Fd at(::open(top.c_str(), O_RDONLY | O_DIRECTORY));
  for (int i = 0; i < levels && at; ++i) {
    const Fd file(::openat(at.get(), "f", O_CREAT | O_WRONLY, 0600));
    if (!file || ::mkdirat(at.get(), "d", 0700) != 0) return false;
    at = Fd(::openat(at.get(), "d", O_RDONLY | O_DIRECTORY));
  }
  return static_cast<bool>(at);
}

}  // namespace

TEST_CASE("a tree goes whole, and what its symbolic links name stays") {
  const TempDir ground = TempDir::create().value();
  const Path tree = ground.path() / "tree";
  std::filesystem::create_directories(tree / "a/b/c");
  std::filesystem::create_directories(tree / "removing-0/x");
  std::ofstream(tree / "removing-1") << "a name that moving may want";
  std::ofstream(tree / "a/b/file") << "bytes";
  std::filesystem::create_directories(ground.path() / "kept/folder");
  std::filesystem::create_symlink(ground.path() / "kept", tree / "a/b/link");
  std::filesystem::create_symlink(ground.path() / "kept", ground.path() / "alias");
  CHECK(remove_tree(tree).has_value());
  CHECK(remove_tree(ground.path() / "alias").has_value());
  CHECK(remove_tree(ground.path() / "never was").has_value());
  CHECK_FALSE(std::filesystem::exists(tree));
  CHECK(std::filesystem::exists(ground.path() / "kept/folder"));
}

TEST_CASE("folders that their owner may not read or search are removed all the same") {
  for (const mode_t mode : {0300U, 0500U, 0000U}) {
    CAPTURE(mode);
    const TempDir ground = open_ground();
    const Path tree = ground.path() / "tree";
    CHECK(as_ordinary_user([&] {
      std::filesystem::create_directories(tree / "x/y/z");
      std::ofstream(tree / "x/y/file") << "bytes";
      return ::chmod((tree / "x/y/z").c_str(), mode) == 0 &&
             ::chmod((tree / "x/y").c_str(), mode) == 0 &&
             ::chmod((tree / "x").c_str(), mode) == 0 && ::chmod(tree.c_str(), mode) == 0 &&
             remove_tree(tree).has_value();
    }));
    CHECK_FALSE(std::filesystem::exists(tree));
  }
}

TEST_CASE("a tree far deeper than a path or the descriptors reach is removed") {
  const TempDir ground = open_ground();
  const Path tree = ground.path() / "tree";
  CHECK(as_ordinary_user([&] {
    const rlimit few{.rlim_cur = 32, .rlim_max = 32};
    return ::setrlimit(RLIMIT_NOFILE, &few) == 0 && make_deep(tree, 5000) &&
           remove_tree(tree).has_value();
  }));
  CHECK_FALSE(std::filesystem::exists(tree));
}

TEST_CASE("what cannot be removed is told, and all else is gone") {
  if (::geteuid() != 0) return;  // somebody else's files take somebody else
  const TempDir ground = open_ground();
  const Path tree = ground.path() / "tree";
  std::filesystem::create_directories(tree / "foreign");
  std::filesystem::create_directories(tree / "own/deep");
  std::ofstream(tree / "foreign/file") << "bytes";
  for (const Path& path : {tree, tree / "own", tree / "own/deep"}) {
    REQUIRE(::chown(path.c_str(), kOrdinary, kOrdinary) == 0);
  }
  CHECK(as_ordinary_user([&] { return !remove_tree(tree).has_value(); }));
  CHECK(std::filesystem::exists(tree / "foreign/file"));
  CHECK_FALSE(std::filesystem::exists(tree / "own"));
}
