#include "serving/client_memory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <string>

#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

struct MemoryFixture {
  TempDir folder = TempDir::create().value();
  ClientMemory memory{::geteuid(), folder.path()};

  void segment(const std::string& name, std::size_t size) {
    const Fd made(::open((folder.path() / name).c_str(), O_RDWR | O_CREAT, 0600));
    REQUIRE(made.get() >= 0);
    REQUIRE(::ftruncate(made.get(), static_cast<off_t>(size)) == 0);
  }
  std::string refusal(const char* key, std::uint64_t offset, std::uint64_t size) {
    const Status added =
        memory.add("team", {.name = "r", .key = key, .offset = offset, .size = size});
    REQUIRE_FALSE(added.has_value());
    CHECK(added.error().reason == reason::kInvalidInput);
    return added.error().message;
  }
};

}  // namespace

TEST_CASE("a region reads and writes its part of a segment, and nothing beyond") {
  MemoryFixture f;
  f.segment("mayfly.team.io", 100);
  REQUIRE(f.memory.add("team", {"r", "/mayfly.team.io", 20, 50}).has_value());
  const ClientRegionRef region = f.memory.find("team", "r").value();
  std::array<std::byte, 10> bytes{};
  bytes.fill(std::byte{7});
  REQUIRE(region->write(40, bytes).has_value());
  std::array<std::byte, 10> back{};
  REQUIRE(region->read(40, back).has_value());
  CHECK(back == bytes);
  CHECK(region->read(41, back).error().reason == reason::kInvalidInput);
  CHECK(region->write(UINT64_MAX, bytes).error().reason == reason::kInvalidInput);
  CHECK(region->check(50, 0).has_value());
  CHECK_FALSE(region->check(51, 0).has_value());
}

TEST_CASE("a segment that its owner has made shorter is an error, and is not made longer") {
  MemoryFixture f;
  f.segment("mayfly.team.io", 100);
  REQUIRE(f.memory.add("team", {"r", "/mayfly.team.io", 0, 100}).has_value());
  const ClientRegionRef region = f.memory.find("team", "r").value();
  f.segment("mayfly.team.io", 10);
  std::array<std::byte, 20> bytes{};
  CHECK(region->read(0, bytes).error().reason == reason::kInvalidInput);
  CHECK(region->write(0, bytes).error().reason == reason::kInvalidInput);
  CHECK(std::filesystem::file_size(f.folder.path() / "mayfly.team.io") == 10);
}

TEST_CASE("only segments of the project are opened") {
  MemoryFixture f;
  for (const char* name : {"mayfly.team.io", "mayfly.team.b.io", "mayfly.other.io", "else"})
    f.segment(name, 100);
  for (const char* key :
       {"/mayfly.other.io", "/mayfly.team.b.io", "/else", "mayfly.team.io", "/mayfly.team.",
        "/mayfly.team.x/../mayfly.other.io", "/../mayfly.team.io", ""})
    CHECK(f.refusal(key, 0, 10).find("/mayfly.team.NAME") != std::string::npos);
  CHECK(f.refusal("/mayfly.team.absent", 0, 10).find("cannot be opened") != std::string::npos);
}

TEST_CASE("links, pipes, folders and other users' segments are refused") {
  MemoryFixture f;
  f.segment("target", 100);
  std::filesystem::create_symlink(f.folder.path() / "target", f.folder.path() / "mayfly.team.link");
  std::filesystem::create_directory(f.folder.path() / "mayfly.team.folder");
  REQUIRE(::mkfifo((f.folder.path() / "mayfly.team.pipe").c_str(), 0600) == 0);
  CHECK(f.refusal("/mayfly.team.link", 0, 10).find("cannot be opened") != std::string::npos);
  CHECK(f.refusal("/mayfly.team.folder", 0, 10).find("cannot be opened") != std::string::npos);
  CHECK(f.refusal("/mayfly.team.pipe", 0, 10).find("is no segment") != std::string::npos);
  f.segment("mayfly.team.io", 100);
  f.memory = ClientMemory(::geteuid() + 1, f.folder.path());
  CHECK(f.refusal("/mayfly.team.io", 0, 10).find("another user") != std::string::npos);
}

TEST_CASE("ranges that a segment does not have are refused") {
  MemoryFixture f;
  f.segment("mayfly.team.io", 100);
  struct Range {
    std::uint64_t offset;
    std::uint64_t size;
  };
  for (const auto& [offset, size] : {Range{0, 101}, Range{1, 100}, Range{100, 1},
                                     Range{UINT64_MAX, 2}, Range{2, UINT64_MAX}, Range{0, 0}})
    CHECK(f.refusal("/mayfly.team.io", offset, size).find("do not lie within") !=
          std::string::npos);
}

TEST_CASE("a project sees its own regions, by name, until they are unregistered") {
  MemoryFixture f;
  f.segment("mayfly.team.io", 100);
  f.segment("mayfly.other.io", 100);
  REQUIRE(f.memory.add("team", {"a", "/mayfly.team.io", 0, 50}).has_value());
  REQUIRE(f.memory.add("team", {"b", "/mayfly.team.io", 50, 50}).has_value());
  REQUIRE(f.memory.add("other", {"a", "/mayfly.other.io", 0, 100}).has_value());
  CHECK(f.memory.add("team", {"a", "/mayfly.team.io", 0, 10}).error().reason == reason::kConflict);
  CHECK(f.memory.list("team", "")->size() == 2);
  CHECK(f.memory.list("team", "b")->front()->about().offset == 50);
  CHECK(f.memory.find("other", "b").error().reason == reason::kInvalidInput);
  CHECK(f.memory.list("other", "b").error().reason == reason::kNotFound);
  REQUIRE(f.memory.remove("team", "a").has_value());
  REQUIRE(f.memory.remove("team", "a").has_value());
  CHECK(f.memory.list("team", "")->size() == 1);
  REQUIRE(f.memory.remove_all("team").has_value());
  CHECK(f.memory.list("team", "")->empty());
  CHECK(f.memory.list("other", "")->size() == 1);
}

TEST_CASE("a project has no more regions than it may") {
  MemoryFixture f;
  f.segment("mayfly.team.io", 100);
  for (std::size_t i = 0; i < ClientMemory::kMostRegions; ++i)
    REQUIRE(f.memory.add("team", {std::to_string(i), "/mayfly.team.io", 0, 1}).has_value());
  CHECK(f.memory.add("team", {"more", "/mayfly.team.io", 0, 1}).error().reason ==
        reason::kConflict);
  REQUIRE(f.memory.remove("team", "0").has_value());
  CHECK(f.memory.add("team", {"more", "/mayfly.team.io", 0, 1}).has_value());
}

TEST_CASE("while it is off every call says so") {
  ClientMemory off(std::nullopt);
  CHECK(off.check_enabled().error().reason == reason::kUnsupported);
  CHECK(MemoryFixture().memory.check_enabled().has_value());
  CHECK(off.add("a", {"r", "/mayfly.a.x", 0, 1}).error().reason == reason::kUnsupported);
  CHECK(off.remove_all("a").error().reason == reason::kUnsupported);
  CHECK(off.list("a", "").error().reason == reason::kUnsupported);
}
