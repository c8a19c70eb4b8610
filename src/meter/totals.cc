#include "meter/totals.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "meter/wire.h"

namespace mayfly {
namespace {

constexpr std::string_view kMagic = "mayflyT3";
enum class Format : std::uint8_t { WithoutShadows, WithShadows, WithWaits };
constexpr std::array<std::string_view, 3> kMagics = {"mayflyT1", "mayflyT2", kMagic};
constexpr std::size_t kCounters = 14;

// The order of the counters in a row.
template <typename U>
auto counters(U& usage) {
  return std::array{&usage.requests,  &usage.attempts,  &usage.errors,    &usage.refused,
                    &usage.starts[0], &usage.starts[1], &usage.starts[2], &usage.starts[3],
                    &usage.queue_us,  &usage.start_us,  &usage.run_us,    &usage.cpu_us,
                    &usage.bytes_in,  &usage.bytes_out};
}
static_assert(std::tuple_size_v<decltype(counters(std::declval<Usage&>()))> == kCounters);

std::uint64_t as_count(WallTime time) {
  return static_cast<std::uint64_t>(time.time_since_epoch().count());
}

WallTime get_time(WireReader& in) {
  return WallTime(Duration(static_cast<std::int64_t>(in.get<std::uint64_t>())));
}

void put_row(WireWriter& wire, const UsageKey& key, const Usage& usage) {
  wire.put(static_cast<std::uint64_t>(key.hour.value));
  wire.put(key.version);
  for (const std::uint64_t* counter : counters(usage)) wire.put(*counter);
  wire.put(usage.waited_us);
  wire.put(usage.memory_time);
  wire.put(usage.shadow_memory_time);
  wire.put_text(key.project);
  wire.put_text(key.function);
}

Uint128 get_memory_time(WireReader& wire) {
  const auto low = wire.get<std::uint64_t>();
  return Uint128{wire.get<std::uint64_t>()} << 64 | low;
}

// nullopt: none of them.
std::optional<Format> get_format(WireReader& wire) {
  const auto magic = wire.take(kMagic.size());
  for (std::size_t i = 0; i < kMagics.size(); ++i) {
    if (std::ranges::equal(magic, std::as_bytes(std::span(kMagics.at(i)))))
      return static_cast<Format>(i);
  }
  return std::nullopt;
}

void get_row(WireReader& wire, Format format, UsageTable& table) {
  UsageKey key;
  Usage usage;
  key.hour.value = static_cast<std::int64_t>(wire.get<std::uint64_t>());
  key.version = wire.get<std::uint32_t>();
  for (std::uint64_t* counter : counters(usage)) *counter = wire.get<std::uint64_t>();
  if (format >= Format::WithWaits) usage.waited_us = wire.get<std::uint64_t>();
  usage.memory_time = get_memory_time(wire);
  if (format >= Format::WithShadows) usage.shadow_memory_time = get_memory_time(wire);
  key.project = wire.get_text();
  key.function = wire.get_text();
  if (wire.ok()) table.add(key, usage);
}

}  // namespace

void SegmentTotals::add(const InvocationRecord& record) {
  ++records;
  earliest = std::min(earliest, record.time);
  latest = std::max(latest, record.time);
  usage.add(record);
}

std::string encode_totals(const SegmentTotals& totals) {
  std::string body;
  WireWriter wire(body);
  wire.put(totals.segment);
  wire.put(totals.records);
  wire.put(as_count(totals.earliest));
  wire.put(as_count(totals.latest));
  wire.put(static_cast<std::uint32_t>(totals.usage.rows().size()));
  for (const auto& [key, usage] : totals.usage.rows()) put_row(wire, key, usage);
  std::string file(kMagic);
  WireWriter(file).put(checksum(std::as_bytes(std::span(body))));
  return file + body;
}

Result<SegmentTotals> decode_totals(std::span<const std::byte> bytes) {
  const auto damaged = [] { return fail(Code::DataLoss, "sealed totals are damaged"); };
  WireReader wire(bytes);
  const std::optional<Format> format = get_format(wire);
  if (!format) return damaged();
  const auto expected = wire.get<std::uint32_t>();
  if (!wire.ok() || checksum(bytes.subspan(kMagic.size() + sizeof expected)) != expected) {
    return damaged();
  }
  SegmentTotals totals;
  totals.segment = wire.get<std::uint64_t>();
  totals.records = wire.get<std::uint64_t>();
  totals.earliest = get_time(wire);
  totals.latest = get_time(wire);
  const auto rows = wire.get<std::uint32_t>();
  for (std::uint32_t i = 0; i < rows && wire.ok(); ++i) get_row(wire, *format, totals.usage);
  if (!wire.ok() || !wire.at_end() || totals.usage.rows().size() != rows) return damaged();
  return totals;
}

}  // namespace mayfly
