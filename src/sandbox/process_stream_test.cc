// The server's side of a stream, against a real process that tells the truth and against ones that
// lie.
#include <memory>
#include <string>
#include <string_view>

#include "core/reason.h"
#include "sandbox/testing/played.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

RequestMemory stream_request(std::string_view text) {
  RequestMemory request = bytes_request(text);
  request.set_streams();
  return request;
}

}  // namespace

TEST_CASE("a stream's chunks come one at a time, when they are asked for, until its end") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  instance->handle->run(stream_request("pc3"));
  for (std::size_t i = 1; i <= 3; ++i) {
    REQUIRE(play.rig.wait([&] { return instance->chunks.size() == i; }));
    CHECK(bytes_of(instance->chunks.back()) == std::to_string(i));
    CHECK(instance->replies.empty());
    instance->handle->go_on();
  }
  REQUIRE(play.rig.wait([&] { return instance->replies.size() == 1; }));
  REQUIRE(instance->replies[0].has_value());
  CHECK(instance->replies[0]->outputs.empty());
  CHECK(bytes_of(instance->chunks.front()) == "1");  // it was copied
  CHECK(play.ask(*instance, "echo") == "echo");
}

TEST_CASE("a stream that is closed ends without another chunk, and the instance goes on") {
  Played play;
  play.require_ready();
  const auto instance = play.rig.fork(*play.model);
  instance->handle->run(stream_request("pc1000000"));
  REQUIRE(play.rig.wait([&] { return instance->chunks.size() == 1; }));
  instance->handle->go_on();
  instance->handle->close_stream();
  REQUIRE(play.rig.wait([&] { return instance->replies.size() == 1; }));
  CHECK(instance->replies[0].has_value());
  CHECK(instance->chunks.size() == 1);
  CHECK(play.ask(*instance, "echo") == "echo");
}

TEST_CASE("what a hostile stream sends is refused and ends it") {
  Played play;
  play.require_ready();
  // A chunk that is an error; one of random bytes; two without being asked; an end that is none.
  for (const char* act : {"pe1", "ps1", "pt2", "px0"}) {
    CAPTURE(act);
    const auto instance = play.rig.fork(*play.model);
    instance->handle->run(stream_request(act));
    REQUIRE(play.rig.wait([&] { return instance->replies.size() == 1; }));
    CHECK(instance->replies[0].error().reason == reason::kBadReply);
    CHECK(play.rig.wait([&] { return instance->exit.has_value(); }));
  }
  // A stream's end, or a chunk, for a request that is none. The reply that lies there was given.
  const auto ender = play.rig.fork(*play.model);
  CHECK(play.ask(*ender, "pc0") == "error bad_reply");
  const auto ringer = play.rig.fork(*play.model);
  CHECK(play.ask(*ringer, "pt1") == "1");
  CHECK(play.rig.wait([&] { return ender->exit.has_value() && ringer->exit.has_value(); }));
}
