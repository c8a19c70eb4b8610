// What the ledger keeps of one attempt at one invocation. Every figure is taken by the server from
// outside the jail.
//
// A frame in the ledger, all integers little-endian:
//
//   offset  bytes
//        0      4  length of the payload
//        4      4  CRC-32 of the payload (zlib's polynomial)
//        8         payload
//
// The payload, format 1:
//
//        0      1  format version
//        1      1  start tier (core/invocation.h)
//        2      2  attempt, counted from 1
//        4     16  invocation id
//       20      8  time, nanoseconds since 1970
//       28      4  version of the function; 0: none was chosen
//       32   4×8  queue, start, run, cpu: microseconds, rounded down
//       64   2×8  memory limit and peak of the instance, bytes
//       80   2×8  bytes received and sent
//       96         five texts, each one length byte and UTF-8: project, caller, request id,
//                  function, reason
//
// Format 2 is that of attempts at an event (events/): its 16 bytes of id stand at 96, the texts
// after them. An attempt that was lost to the platform is tried again under its number. A format is
// 1, 1 more with an event, 2 more with `waited` (8 bytes: microseconds that a function waited for
// others that it called), 4 more with `first_chunk` (8 bytes: microseconds from `time` to a
// stream's first chunk). They stand before the texts in this order.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "core/invocation.h"
#include "core/names.h"

namespace mayfly {

struct InvocationRecord {
  InvocationId invocation;
  std::uint16_t attempt = 1;
  WallTime time{};  // accepted
  std::string project = "default";
  std::string caller;      // who asked; empty: anonymous
  std::string request_id;  // X-Request-Id, as given or made
  std::string function;
  VersionNumber version;
  StartTier tier = StartTier::None;
  std::chrono::microseconds queue{};
  std::chrono::microseconds start{};
  std::chrono::microseconds run{};
  std::chrono::microseconds cpu{};
  std::chrono::microseconds waited{};  // the part of `run` that its function waited for callees
  Bytes memory_limit;
  Bytes memory_peak;
  Bytes received;
  Bytes sent;
  std::string reason;                   // a slug of core/reason.h; empty: answered
  std::optional<InvocationId> event{};  // that it is an attempt at
  // Of a stream: since `time`.
  std::optional<std::chrono::microseconds> first_chunk{};
  bool operator==(const InvocationRecord&) const = default;
};

// The caller of copies that nobody waited for. No caller is called so: names that people choose are
// followed by what vouches for them, "(key:4f2a)".
inline constexpr std::string_view kShadowCaller = "shadow";

inline constexpr std::size_t kFrameHead = 8;
inline constexpr std::size_t kMinPayload = 96 + 5;
inline constexpr std::size_t kMaxPayload = 96 + 16 + 8 + 8 + 5 * 256;

// What an attempt becomes that was lost to the platform: nobody is billed for it.
InvocationRecord unbilled(InvocationRecord record);

// Appends one frame. Texts longer than 255 bytes are cut, negative durations count as zero.
void encode_record(const InvocationRecord& record, std::string& frames);

// The payload of the frame at the front of `bytes`; nullopt when it is cut off or damaged.
std::optional<std::span<const std::byte>> intact_frame(std::span<const std::byte> bytes);

// data_loss for a payload that is not a record, or one of a newer format.
Result<InvocationRecord> decode_record(std::span<const std::byte> payload);

}  // namespace mayfly
