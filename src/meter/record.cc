#include "meter/record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "meter/wire.h"

namespace mayfly {
namespace {

// A format is this and what a record has besides.
constexpr std::uint8_t kFormat = 1;
constexpr std::uint8_t kWithEvent = 1;
constexpr std::uint8_t kWithWaited = 2;
constexpr std::uint8_t kWithFirstChunk = 4;

std::uint64_t as_count(std::chrono::microseconds duration) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0));
}

std::chrono::microseconds get_duration(WireReader& in) {
  return std::chrono::microseconds(static_cast<std::int64_t>(in.get<std::uint64_t>()));
}

std::uint8_t format_of(const InvocationRecord& record) {
  const int with = (record.event ? kWithEvent : 0) | (record.waited.count() > 0 ? kWithWaited : 0) |
                   (record.first_chunk ? kWithFirstChunk : 0);
  return static_cast<std::uint8_t>(kFormat + with);
}

void encode_payload(const InvocationRecord& record, std::string& out) {
  WireWriter wire(out);
  wire.put(format_of(record));
  wire.put(static_cast<std::uint8_t>(record.tier));
  wire.put(record.attempt);
  wire.put_bytes(record.invocation.bytes);
  wire.put(static_cast<std::uint64_t>(record.time.time_since_epoch().count()));
  wire.put(record.version.value);
  for (const auto duration : {record.queue, record.start, record.run, record.cpu}) {
    wire.put(as_count(duration));
  }
  for (const Bytes bytes :
       {record.memory_limit, record.memory_peak, record.received, record.sent}) {
    wire.put(bytes.count);
  }
  if (record.event) wire.put_bytes(record.event->bytes);
  if (record.waited.count() > 0) wire.put(as_count(record.waited));
  if (record.first_chunk) wire.put(as_count(*record.first_chunk));
  for (const std::string* text :
       {&record.project, &record.caller, &record.request_id, &record.function, &record.reason}) {
    wire.put_text(*text);
  }
}

bool is_sane(const InvocationRecord& record) {
  const auto tier = static_cast<std::uint8_t>(record.tier);
  const bool durations =
      std::ranges::all_of(
          std::initializer_list{record.queue, record.start, record.run, record.cpu, record.waited},
          [](std::chrono::microseconds duration) { return duration.count() >= 0; }) &&
      record.first_chunk.value_or(std::chrono::microseconds()).count() >= 0;
  return durations && tier >= static_cast<std::uint8_t>(StartTier::Hot) &&
         tier <= static_cast<std::uint8_t>(StartTier::Environment) && record.attempt > 0;
}

}  // namespace

InvocationRecord unbilled(InvocationRecord record) {
  record.tier = StartTier::None;
  record.queue = record.start = record.run = record.cpu = record.waited = {};
  record.first_chunk = {};
  record.received = record.sent = {};
  return record;
}

void encode_record(const InvocationRecord& record, std::string& frames) {
  const std::size_t head = frames.size();
  frames.append(kFrameHead, '\0');
  encode_payload(record, frames);
  const auto payload = std::as_bytes(std::span(frames).subspan(head + kFrameHead));
  std::string fields;
  WireWriter wire(fields);
  wire.put(static_cast<std::uint32_t>(payload.size()));
  wire.put(checksum(payload));
  std::memcpy(frames.data() + head, fields.data(), kFrameHead);
}

std::optional<std::span<const std::byte>> intact_frame(std::span<const std::byte> bytes) {
  WireReader wire(bytes);
  const auto length = wire.get<std::uint32_t>();
  const auto expected = wire.get<std::uint32_t>();
  if (!wire.ok() || length < kMinPayload || length > kMaxPayload) return std::nullopt;
  const auto payload = wire.take(length);
  if (!wire.ok() || checksum(payload) != expected) return std::nullopt;
  return payload;
}

Result<InvocationRecord> decode_record(std::span<const std::byte> payload) {
  WireReader wire(payload);
  const auto format = wire.get<std::uint8_t>();
  const auto with = static_cast<std::uint8_t>(format - kFormat);
  if ((with & ~(kWithEvent | kWithWaited | kWithFirstChunk)) != 0) {
    return fail(Code::DataLoss, fmt::format("a ledger record has the unknown format {}", format));
  }
  InvocationRecord record;
  record.tier = static_cast<StartTier>(wire.get<std::uint8_t>());
  record.attempt = wire.get<std::uint16_t>();
  std::ranges::copy(wire.take(record.invocation.bytes.size()), record.invocation.bytes.begin());
  record.time = WallTime(Duration(static_cast<std::int64_t>(wire.get<std::uint64_t>())));
  record.version.value = wire.get<std::uint32_t>();
  for (auto* duration : {&record.queue, &record.start, &record.run, &record.cpu}) {
    *duration = get_duration(wire);
  }
  for (Bytes* bytes : {&record.memory_limit, &record.memory_peak, &record.received, &record.sent}) {
    bytes->count = wire.get<std::uint64_t>();
  }
  if ((with & kWithEvent) != 0) {
    const auto event = wire.take(sizeof InvocationId::bytes);
    std::ranges::copy(event, record.event.emplace().bytes.begin());
  }
  if ((with & kWithWaited) != 0) record.waited = get_duration(wire);
  if ((with & kWithFirstChunk) != 0) record.first_chunk = get_duration(wire);
  for (std::string* text :
       {&record.project, &record.caller, &record.request_id, &record.function, &record.reason}) {
    *text = wire.get_text();
  }
  if (!wire.ok() || !wire.at_end() || !is_sane(record)) {
    return fail(Code::DataLoss, "a ledger record is malformed");
  }
  return record;
}

}  // namespace mayfly
