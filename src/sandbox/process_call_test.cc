// The server's side of calls, against a real process that tells the truth and against ones that
// lie.
#include <memory>
#include <string>
#include <vector>

#include "core/reason.h"
#include "sandbox/testing/played.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

CallMessage bytes_answer(std::span<const std::byte> bytes) {
  return {.kind = CallKind::Tensors,
          .name = "ok",
          .parts = {{"y", DataType::Uint8, {static_cast<std::int64_t>(bytes.size())}, bytes}}};
}

}  // namespace

TEST_CASE("a call reaches the server, and its answer the instance, however large it is") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  // The second one does not fit the call's own region.
  for (const std::size_t size : {std::size_t{3}, std::size_t{1} << 20U}) {
    instance->handle->run(bytes_request("C!scale"));
    REQUIRE(play.rig.wait([&] { return instance->calls.size() == 1; }));
    CHECK(instance->calls[0].message.name == "scale");
    instance->calls.clear();
    const std::vector<std::byte> bytes(size);
    instance->handle->answer({.message = bytes_answer(bytes)});
    instance->handle->answer({.message = bytes_answer(bytes)});  // nobody waits for it
    REQUIRE(play.rig.wait([&] { return instance->replies.size() == 1; }));
    CHECK(bytes_of(*instance->replies[0]) == "ok " + std::to_string(size));
    instance->replies.clear();
  }
  CHECK(play.ask(*instance, "echo") == "echo");
}

TEST_CASE("an answer that is too large is a failure that says so") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  instance->handle->run(bytes_request("C!scale"));
  REQUIRE(play.rig.wait([&] { return instance->calls.size() == 1; }));
  const std::vector<std::byte> bytes(std::size_t{65} << 20U);
  instance->handle->answer({.message = bytes_answer(bytes)});
  REQUIRE(play.rig.wait([&] { return instance->replies.size() == 1; }));
  CHECK(bytes_of(*instance->replies[0]) == "too_large 0");
}

TEST_CASE("what a hostile instance says of calls is refused and ends it") {
  Played play;
  play.require_ready();
  // Without a region; of random bytes; one more while one waits; an end while one waits.
  for (const char* act : {"Cn", "Csx", "Ctx", "Cdx"}) {
    CAPTURE(act);
    const auto instance = play.rig.fork(*play.model);
    instance->handle->run(bytes_request(act));
    REQUIRE(play.rig.wait([&] { return instance->replies.size() == 1; }));
    REQUIRE_FALSE(instance->replies[0].has_value());
    CHECK(instance->replies[0].error().reason == reason::kBadReply);
    CHECK(play.rig.wait([&] { return instance->exit.has_value(); }));
  }
}

TEST_CASE("an instance that is ended while it waits leaves nothing, and hears no answer") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  CHECK(play.ask(*instance, "echo") == "echo");
  const std::size_t before = open_descriptors();
  instance->handle->run(bytes_request("C!scale"));
  REQUIRE(play.rig.wait([&] { return instance->calls.size() == 1; }));
  CHECK(open_descriptors() == before + 1);
  instance->calls.clear();
  instance->handle->kill();
  REQUIRE(play.rig.wait([&] { return instance->exit.has_value(); }));
  instance->handle->answer({.message = bytes_answer({})});
  CHECK(open_descriptors() <= before);
}
