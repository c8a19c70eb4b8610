// What the server, the blank and the templates say to each other over SEQPACKET sockets, one
// message a datagram:
//
//   SpawnHeader | body (`body_bytes` of it) | descriptors beside it
//
//   server → blank      StartJail   body: plan_bytes of encode_plan, then the request of a job
//                                   descriptors: control, status, log, the secrets where the plan
//                                   has some, cgroup.procs...
//                       FitJail     body: encode_plan of what a jail that awaits a version gets
//                                   descriptors: its user and mount namespaces, the secrets where
//                                   the plan has some
//   blank → server      JailStarted descriptors: pidfd of jail init; of a jail that awaits a
//                                   version its user and mount namespaces
//                       JailFitted
//                       JailFailed  body: why; of StartJail and FitJail
//   worker → server     Ready       the session is built and warm, or: instances may build it
//                       StartFailed body: why (of jail init too)
//                       Unfit       body: why what was imported before does not suit the version
//   server → template   Give        it has a version now: /artifact is there
//   server → template   Fork        descriptors: doorbell, cgroup.procs...
//   template → server   Forked      descriptor: pidfd of the instance; `pid` inside the jail
//                       ForkFailed  body: why
//
// A job's worker sends plain text instead of Ready: its progress (sandbox/job.h).
//
// On the status pipe jail init reports JailExit records (sandbox/jail.h).
//
// Every process of a jail has its control socket at 0 and its log at 1 and 2; an instance has its
// log there and its doorbell at the number it was received under.
//
// Trust: the blank's messages are the server's own code's. A worker may be hostile: what it sends
// is decoded strictly and decides only about its own jail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

inline constexpr int kControlFd = 0;
inline constexpr int kLogFd = 1;  // and 2

enum class SpawnKind : std::uint32_t {
  StartJail = 1,
  JailStarted = 2,
  JailFailed = 3,
  Ready = 4,
  StartFailed = 5,
  Fork = 6,
  Forked = 7,
  ForkFailed = 8,
  FitJail = 9,
  JailFitted = 10,
  Give = 11,
  Unfit = 12,
};

enum class SessionTime : std::uint32_t {
  BeforeFork = 0,  // in the template: instances inherit it
  AfterFork = 1,   // in each instance: threads > 1, or random operators without a seed
  WhenGiven = 2,   // in the template, once it has a version; Python's modules before that
};

struct SpawnHeader {
  SpawnKind kind = SpawnKind::Ready;
  std::uint32_t plan_bytes = 0;
  std::uint64_t id = 0;  // of the jail, or of the instance: given by the server, echoed
  std::int32_t pid = 0;
  std::uint32_t threads = 1;
  SessionTime session = SessionTime::BeforeFork;
  std::uint32_t body_bytes = 0;
};
static_assert(sizeof(SpawnHeader) == 32);

inline constexpr std::size_t kMaxSpawnBody = 112 * 1024;
inline constexpr std::size_t kMaxSpawnDescriptors = 16;

struct SpawnMessage {
  SpawnHeader header;
  std::string body;
  std::vector<Fd> descriptors;
};

// Blocking or not, as the socket is; Unavailable when a non-blocking socket is full.
Status send_spawn(int socket, SpawnHeader header, std::string_view body = {},
                  std::span<const int> descriptors = {});

// Waits for a message, or not, as the socket is. nullopt: nothing there now. An error: the peer is
// gone (Unavailable) or sent something malformed (DataLoss).
Result<std::optional<SpawnMessage>> receive_spawn(int socket);

}  // namespace mayfly
