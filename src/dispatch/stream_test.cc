// Predictions in chunks, in virtual time.
#include "dispatch/stream.h"

#include <memory>
#include <optional>
#include <string_view>

#include "core/reason.h"
#include "dispatch/testing/test_node.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// Takes chunks as it is told to, as whoever sends them to a client does.
struct Reader {
  CancelSource client;
  std::unique_ptr<Stream> stream;
  int chunks = 0;
  bool ended = false;

  std::string_view reason() const {
    const Outcome& outcome = stream->outcome();
    return outcome.reply ? std::string_view() : outcome.reply.error().reason;
  }
};

Task<void> take_one(Reader& reader) {
  if (co_await reader.stream->next()) {
    ++reader.chunks;
  } else {
    reader.ended = true;
  }
}

Task<void> close_reader(Reader& reader) {
  co_await reader.stream->close(refuse(reason::kTooLarge, "enough").error());
  reader.ended = true;
}

class StreamRig {
 public:
  StreamRig() {
    node.spawner.script("f1@1").fate = Fate::Hangs;
    VersionRuntime made = node.runtime(1);
    made.streams = true;
    version = TestNode::share(std::move(made));
  }
  std::unique_ptr<Reader> open(Duration timeout = 30s) {
    auto reader = std::make_unique<Reader>();
    RequestMemory request = *RequestMemory::allocate(*RequestLayout::plan({}, {}), 0);
    Call call = node.call_of(version, std::move(request), timeout);
    call.cancel = reader->client.token();
    reader->stream = node.dispatcher.open(std::move(call));
    node.loop.poll();
    return reader;
  }
  void take(Reader& reader) {
    node.loop.spawn(take_one(reader));
    node.loop.poll();
  }
  void chunk(std::size_t instance = 0) {
    node.spawner.instances().at(instance)->chunk();
    node.loop.poll();
  }

  TestNode node{{.cores = 1, .memory = mib(1000)}};
  std::shared_ptr<const VersionRuntime> version;
};

}  // namespace

TEST_CASE("a chunk is taken when it comes, the next one is asked for, and the end is the outcome") {
  StreamRig rig;
  const auto reader = rig.open();
  FakeInstance& instance = *rig.node.spawner.instances().at(0);
  rig.take(*reader);
  CHECK(reader->chunks == 0);
  rig.node.advance(20ms);
  rig.chunk();
  CHECK(reader->chunks == 1);
  CHECK(instance.wanted() == 1);
  CHECK(reader->stream->tier() == StartTier::Cold);
  rig.take(*reader);
  rig.node.advance(10ms);
  instance.reply();
  rig.node.loop.poll();
  CHECK(reader->ended);
  CHECK(reader->reason().empty());
  CHECK(reader->stream->outcome().timing.run == 30ms);
  CHECK(rig.node.version("f1@1")->idle == 1);
}

TEST_CASE("nobody takes a chunk: no other is asked for, and the core is others'") {
  StreamRig rig;
  const auto slow = rig.open();
  rig.chunk();
  CHECK(rig.node.spawner.instances().at(0)->wanted() == 0);
  CHECK(rig.node.dispatcher.status().node.tokens_used == 0);
  const auto other = rig.node.predict(TestNode::share(rig.node.runtime(2)));
  CHECK(other->ok());
  rig.take(*slow);
  CHECK(slow->chunks == 1);
  CHECK(rig.node.spawner.instances().at(0)->wanted() == 1);
  CHECK(rig.node.dispatcher.status().node.tokens_used == 1);
}

TEST_CASE("a stream whose client has gone is closed, and billed until it has ended") {
  StreamRig rig;
  const auto reader = rig.open();
  rig.take(*reader);
  rig.chunk();
  rig.take(*reader);
  reader->client.cancel();
  rig.node.loop.poll();
  FakeInstance& instance = *rig.node.spawner.instances().at(0);
  CHECK(instance.closing());
  CHECK_FALSE(instance.killed());
  CHECK_FALSE(reader->ended);
  rig.chunk();  // under way already
  rig.node.advance(300ms);
  instance.reply();
  rig.node.loop.poll();
  CHECK(reader->ended);
  CHECK(reader->chunks == 1);
  CHECK(reader->reason() == reason::kClientGone);
  CHECK(reader->stream->outcome().timing.run == 300ms);
  CHECK(rig.node.version("f1@1")->idle == 1);
}

TEST_CASE("what does not end when it is told to is killed after the grace") {
  StreamRig rig;
  const auto reader = rig.open();
  rig.take(*reader);
  rig.chunk();
  rig.node.loop.spawn(close_reader(*reader));
  rig.node.advance(kCloseGrace - 1ms);
  CHECK_FALSE(reader->ended);
  rig.node.advance(1ms);
  CHECK(reader->ended);
  CHECK(reader->reason() == reason::kTooLarge);
  CHECK(rig.node.spawner.instances().empty());
}

TEST_CASE("the deadline ends a stream, however many chunks have come") {
  StreamRig rig;
  const auto reader = rig.open(1s);
  for (int i = 0; i < 3; ++i) {
    rig.take(*reader);
    rig.node.advance(100ms);
    rig.chunk();
  }
  rig.take(*reader);
  rig.node.advance(700ms);
  CHECK(reader->chunks == 3);
  CHECK(reader->reason() == reason::kDeadlineExceeded);
  CHECK(rig.node.spawner.instances().empty());
}

TEST_CASE("a stream that is destroyed kills its instance, one that waits leaves the queue") {
  StreamRig rig;
  auto reader = rig.open();
  auto waiting = rig.open();
  CHECK(rig.node.version("f1@1")->queued == 1);
  waiting.reset();
  CHECK(rig.node.version("f1@1")->queued == 0);
  rig.take(*reader);
  rig.chunk();
  FakeInstance& instance = *rig.node.spawner.instances().at(0);
  reader.reset();
  CHECK(instance.killed());
}

TEST_CASE("a crash between chunks ends the stream, and the chunk before it is not lost") {
  StreamRig rig;
  const auto reader = rig.open();
  rig.chunk();
  rig.node.spawner.instances().at(0)->exit({.code = 3, .signal = 0, .oom = false});
  rig.node.loop.poll();
  rig.take(*reader);
  rig.take(*reader);
  CHECK(reader->chunks == 1);
  CHECK(reader->reason() == reason::kInstanceCrashed);
}

TEST_CASE("each kind of version is asked in its own way") {
  StreamRig rig;
  CHECK(rig.node.predict(rig.version)->reason() == reason::kUnsupported);
  rig.version = TestNode::share(rig.node.runtime(2));
  const auto reader = rig.open();
  rig.take(*reader);
  CHECK(reader->reason() == reason::kUnsupported);
}

}  // namespace mayfly
