// One datagram of a hostile template: it is refused, or a message whose parts agree.
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "sandbox/spawn_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const mayfly::SocketPair pair = mayfly::make_seqpacket_pair().value();
  static const bool ready = mayfly::set_nonblocking(pair.ours.get()).has_value();
  CHECK(ready);
  // The kernel takes no larger one, and an empty one is the end of file.
  if (size == 0 || ::send(pair.theirs.get(), data, size, MSG_DONTWAIT) < 0) return 0;
  const auto message = mayfly::receive_spawn(pair.ours.get());
  if (!message) return 0;
  CHECK(message->has_value());
  CHECK((*message)->body.size() == (*message)->header.body_bytes);
  CHECK((*message)->header.plan_bytes <= (*message)->body.size());
  CHECK((*message)->body.size() <= mayfly::kMaxSpawnBody);
  CHECK((*message)->descriptors.empty());
  // Nothing of it is left for the next one.
  CHECK(!mayfly::receive_spawn(pair.ours.get()).value().has_value());
  return 0;
}
