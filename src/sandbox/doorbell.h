// The doorbell of an instance: a SEQPACKET socket pair carrying DoorbellMessage. When the outputs
// do not fit, the instance asks with NeedOutputRegion, keeps its results, and gets a region made
// for them (OutputRegion + descriptor).
//
// A stream is a request that is answered in chunks, and never part of a burst. Each chunk is
// written like a reply and rung for (Chunk). The server copies it, and when somebody wants more
// says GoOn; until then the instance waits. Close says that nobody does. The reply is over with
// Done, as every reply, and its status is then End or an error.
//
// A call of another function is made while a request runs that is in no burst. The instance asks
// for room with NeedCallRegion, writes the call there (sandbox/call_message.h), rings Call and
// waits for CallDone: the answer lies where the call did, or in the region that comes with it. The
// region is for all calls of the request that it holds; both sides let go of it when the request is
// done.
#pragma once

#include <cstdint>
#include <optional>

#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

enum class DoorbellKind : std::uint32_t {
  Run = 1,           // server → instance; with a descriptor: use this region from now on (or once)
  OutputRegion = 2,  // server → instance, with a descriptor; without one: there is no room
  Started = 3,  // instance → server, once, when it is set up and about to read its first request
  Done = 4,     // instance → server: the replies are in the region
  NeedOutputRegion = 5,  // instance → server: `bytes` are needed for the outputs of `lane`
  Chunk = 6,             // instance → server: a chunk is in the region, and I wait
  GoOn = 7,              // server → instance: the next one
  Close = 8,             // server → instance, at any time: no more are wanted
  NeedCallRegion = 9,    // instance → server: `bytes` are needed for a call
  CallRegion = 10,       // server → instance, with a descriptor; without one: it is too much
  Call = 11,             // instance → server: a call is in its region, and I wait
  CallDone = 12,         // server → instance; with a descriptor: the call region from now on
};

enum class RegionUse : std::uint32_t {
  None = 0,  // no descriptor: the instance's own region
  Own = 1,   // the descriptor is the instance's own region from now on
  Once = 2,  // the descriptor holds this request only: unmap it when done
};

struct DoorbellMessage {
  DoorbellKind kind = DoorbellKind::Run;
  RegionUse use = RegionUse::None;
  std::uint64_t sequence = 0;  // of the burst; echoed in the answers
  std::uint64_t bytes = 0;     // size of the region passed, or needed
  std::uint32_t lanes = 1;     // requests in the burst; one has the whole region
  std::uint32_t lane = 0;
};

struct ReceivedMessage {
  DoorbellMessage message;
  Fd descriptor;  // none when nothing was passed
  // The sender's process id in the receiver's pid namespace, vouched for by the kernel; 0 unless
  // the receiving socket has SO_PASSCRED set.
  int pid = 0;
};

// Blocking or not, as the socket is. nullopt: nothing there now (non-blocking). An error: the peer
// is gone or sent something malformed.
Status send_message(int socket, const DoorbellMessage& message, int descriptor = -1);
Result<std::optional<ReceivedMessage>> receive_message(int socket);

}  // namespace mayfly
