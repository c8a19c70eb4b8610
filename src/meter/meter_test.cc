#include "meter/prices.h"
#include "meter/record.h"
#include "meter/totals.h"
#include "meter/usage.h"

#include <string>

#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

InvocationRecord sample() {
  InvocationRecord record;
  record.invocation.bytes[3] = std::byte{7};
  record.attempt = 2;
  record.time = WallTime(1'700'000'000'123'456'789ns);
  record.caller = "alice";
  record.request_id = "r-1";
  record.function = "fraud";
  record.version = {3};
  record.tier = StartTier::Template;
  record.queue = 11us;
  record.start = 22us;
  record.run = 33us;
  record.cpu = 30us;
  record.memory_limit = mib(512);
  record.memory_peak = mib(20);
  record.received = {100};
  record.sent = {200};
  record.reason = std::string(reason::kModelError);
  return record;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

InvocationRecord served(std::chrono::hours hour, std::uint64_t mebibytes, Duration run) {
  InvocationRecord record;
  record.time = WallTime(hour + 5min);
  record.function = "fraud";
  record.version = {1};
  record.tier = StartTier::Hot;
  record.memory_limit = mib(mebibytes);
  record.run = std::chrono::duration_cast<std::chrono::microseconds>(run);
  record.cpu = record.run / 2;
  return record;
}

}  // namespace

TEST_CASE("a record survives its frame") {
  std::string frames = "xx";
  encode_record(sample(), frames);
  const auto payload = intact_frame(bytes_of(frames).subspan(2));
  REQUIRE(payload.has_value());
  CHECK(payload->size() + kFrameHead + 2 == frames.size());
  CHECK(decode_record(*payload).value() == sample());
}

TEST_CASE("the encoding is fixed: these bytes are read forever") {
  InvocationRecord record;
  record.invocation.bytes.fill(std::byte{0xab});
  record.time = WallTime(1ns);
  record.function = "f";
  record.tier = StartTier::Hot;
  std::string frames;
  encode_record(record, frames);
  std::string expected("\x6d\x00\x00\x00", 4);
  expected += frames.substr(4, 4);  // the checksum
  expected += std::string("\x01\x01\x01\x00", 4) + std::string(16, '\xab');
  expected += std::string("\x01\0\0\0\0\0\0\0", 8) + std::string(4 + 64, '\0');
  expected += std::string("\x07", 1) + "default" + std::string("\0\0\x01", 3) + "f" + '\0';
  CHECK(frames == expected);
}

TEST_CASE("an attempt at an event has the event's id before its texts, others are as they were") {
  InvocationRecord record = sample();
  std::string plain;
  encode_record(record, plain);
  record.event.emplace().bytes.fill(std::byte{0xcd});
  std::string frames;
  encode_record(record, frames);
  CHECK(frames.size() == plain.size() + 16);
  CHECK(frames[kFrameHead] == 2);
  CHECK(frames.substr(kFrameHead + 96, 16) == std::string(16, '\xcd'));
  CHECK(frames.substr(kFrameHead + 112) == plain.substr(kFrameHead + 96));
  CHECK(decode_record(intact_frame(bytes_of(frames)).value()).value() == record);
}

TEST_CASE("a stream has the time to its first chunk before its texts, others are as they were") {
  for (const bool of_event : {false, true}) {
    InvocationRecord record = sample();
    if (of_event) record.event.emplace().bytes.fill(std::byte{0xcd});
    std::string plain;
    encode_record(record, plain);
    record.first_chunk = 258us;
    std::string frames;
    encode_record(record, frames);
    const std::size_t texts = kFrameHead + 96 + (of_event ? 16 : 0);
    CHECK(frames.size() == plain.size() + 8);
    CHECK(frames[kFrameHead] == (of_event ? 6 : 5));
    CHECK(frames.substr(texts, 8) == std::string("\x02\x01\0\0\0\0\0\0", 8));
    CHECK(frames.substr(texts + 8) == plain.substr(texts));
    CHECK(decode_record(intact_frame(bytes_of(frames)).value()).value() == record);
    CHECK_FALSE(unbilled(record).first_chunk.has_value());
  }
}

TEST_CASE("what the platform lost costs nothing, whatever it took") {
  InvocationRecord record = sample();
  record.tier = StartTier::Hot;
  Usage usage;
  usage.add(unbilled(record));
  CHECK(usage.requests == 0);
  CHECK(usage.cpu_us == 0);
  CHECK(usage.memory_time == 0);
  CHECK(usage.bytes_in == 0);
  CHECK(usage.refused == 1);
}

TEST_CASE("every flipped byte and every missing byte of a frame is noticed") {
  std::string frames;
  encode_record(sample(), frames);
  for (std::size_t i = 0; i < frames.size(); ++i) {
    std::string damaged = frames;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    CHECK_FALSE(intact_frame(bytes_of(damaged)).has_value());
    CHECK_FALSE(intact_frame(bytes_of(frames).first(i)).has_value());
  }
}

TEST_CASE("texts that are too long are cut, not refused") {
  InvocationRecord record = sample();
  record.caller = std::string(1000, 'c');
  std::string frames;
  encode_record(record, frames);
  CHECK(decode_record(intact_frame(bytes_of(frames)).value())->caller == std::string(255, 'c'));
}

TEST_CASE("a payload of an unknown format, tier or length is data loss") {
  std::string frames;
  encode_record(sample(), frames);
  const std::string payload = frames.substr(kFrameHead);
  for (const auto& [at, value] :
       {std::pair{0, 0}, std::pair{0, 9}, std::pair{1, 0}, std::pair{1, 7}}) {
    std::string bad = payload;
    bad[static_cast<std::size_t>(at)] = static_cast<char>(value);
    CHECK(decode_record(bytes_of(bad)).error().code == Code::DataLoss);
  }
  CHECK_FALSE(decode_record(bytes_of(payload + "x")).has_value());
  CHECK_FALSE(decode_record(bytes_of(payload).first(50)).has_value());
  CHECK_FALSE(decode_record({}).has_value());
}

TEST_CASE("usage sums what instances served by hour, function and version") {
  UsageTable table;
  table.add(served(10h, 512, 2s));
  table.add(served(10h, 512, 1s));
  table.add(served(11h, 512, 1s));
  InvocationRecord retried = served(11h, 512, 1s);
  retried.attempt = 2;
  retried.reason = "model_error";
  table.add(retried);
  REQUIRE(table.rows().size() == 2);
  const Usage& ten = table.rows().begin()->second;
  CHECK(table.rows().begin()->first.hour.value == 10);
  CHECK(ten.requests == 2);
  CHECK(ten.run_us == 3'000'000);
  CHECK(ten.cpu_us == 1'500'000);
  CHECK(ten.memory_time == Uint128{512ULL << 20} * 3'000'000);
  const Usage& eleven = table.rows().rbegin()->second;
  CHECK(eleven.requests == 1);
  CHECK(eleven.attempts == 2);
  CHECK(eleven.errors == 1);
  CHECK(eleven.starts[0] == 2);
}

TEST_CASE("what no instance served is refused and costs nothing") {
  UsageTable table;
  InvocationRecord record = served(1h, 512, 1s);
  record.tier = StartTier::None;
  record.reason = "queue_full";
  table.add(record);
  const Usage& usage = table.rows().begin()->second;
  CHECK(usage.refused == 1);
  CHECK(usage.requests == 0);
  CHECK(usage.run_us == 0);
  CHECK(make_bill(table, {}).total == 0);
}

TEST_CASE("hours are those of UTC, also before 1970") {
  CHECK(hour_of(WallTime(3599s)).value == 0);
  CHECK(hour_of(WallTime(3600s)).value == 1);
  CHECK(hour_of(WallTime(-1ns)).value == -1);
  CHECK(start_of(Hour{2}) == WallTime(2h));
}

TEST_CASE("the bill is exact: GiB-seconds, CPU-seconds and requests times their price") {
  UsageTable table;
  // 1.5 GiB for 2 s, of which 1 s on the processor
  table.add(served(10h, 1536, 2s));
  const Bill bill =
      make_bill(table, {.gib_second = 1'000, .cpu_second = 7, .million_requests = 3'000'000});
  REQUIRE(bill.lines.size() == 1);
  CHECK(bill.lines[0].memory_cost == 3'000);
  CHECK(bill.lines[0].cpu_cost == 7);
  CHECK(bill.lines[0].request_cost == 3);
  CHECK(bill.total == 3'010);
}

TEST_CASE("amounts are rounded once a line, half up") {
  UsageTable table;
  Usage usage;
  usage.cpu_us = 500'000;  // half a CPU-second at 1 nano
  table.add({.hour = {1}, .project = "p", .function = "f", .version = 1}, usage);
  table.add({.hour = {2}, .project = "p", .function = "f", .version = 1}, usage);
  table.add({.hour = {2}, .project = "p", .function = "f", .version = 2}, usage);
  usage.cpu_us = 499'999;
  table.add({.hour = {2}, .project = "p", .function = "g", .version = 1}, usage);
  const Bill bill = make_bill(table, {.gib_second = 0, .cpu_second = 1, .million_requests = 0});
  REQUIRE(bill.lines.size() == 3);
  CHECK(bill.lines[0].cpu_cost == 1);
  CHECK(bill.lines[1].cpu_cost == 1);
  CHECK(bill.lines[2].cpu_cost == 0);
  CHECK(bill.total == 2);
}

TEST_CASE("a century of a large fleet does not overflow") {
  UsageTable table;
  Usage usage;
  // 10,000 instances of 1 TiB for 100 years of 365 days
  const std::uint64_t seconds = 100ULL * 365 * 86'400;
  usage.memory_time = Uint128{1ULL << 40} * (seconds * 1'000'000) * 10'000;
  table.add({.hour = {1}, .project = "p", .function = "f", .version = 1}, usage);
  const Bill bill = make_bill(table, {.gib_second = 1'000'000'000'000});
  CHECK(bill.total == Uint128{1024} * seconds * 10'000 * 1'000'000'000'000ULL);
}

TEST_CASE("amounts print as decimals") {
  CHECK(decimal(0) == "0.000000000");
  CHECK(decimal(16'667) == "0.000016667");
  CHECK(decimal(12'345'678'901) == "12.345678901");
  CHECK(decimal(Uint128{10'000'000'000'000'000'000ULL} * 100) == "1000000000000.000000000");
}

TEST_CASE("sealed totals survive their file, and damage is noticed") {
  SegmentTotals totals;
  totals.segment = 42;
  totals.add(served(10h, 512, 2s));
  totals.add(sample());
  InvocationRecord copy = sample();
  copy.caller = kShadowCaller;
  totals.add(copy);
  const std::string file = encode_totals(totals);
  CHECK(decode_totals(bytes_of(file)).value() == totals);
  CHECK(totals.records == 3);
  CHECK(totals.earliest == WallTime(10h + 5min));
  for (std::size_t i = 0; i < file.size(); ++i) {
    std::string damaged = file;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    CHECK_FALSE(decode_totals(bytes_of(damaged)).has_value());
  }
  CHECK_FALSE(decode_totals(bytes_of(file).first(file.size() - 1)).has_value());
  CHECK_FALSE(decode_totals({}).has_value());
}

TEST_CASE("totals that were sealed before waits, and before shadows were told apart, are read") {
  SegmentTotals totals;
  totals.add(served(10h, 512, 2s));
  std::string file = encode_totals(totals);
  const std::size_t names = 1 + std::string("default").size() + 1 + std::string("fraud").size();
  const auto sealed_as = [&](std::string magic) {
    const std::string body = file.substr(12);
    WireWriter(magic).put(checksum(bytes_of(body)));
    return decode_totals(bytes_of(magic + body)).value();
  };
  file.erase(file.size() - names - 40, 8);  // what the only row waited
  CHECK(sealed_as("mayflyT2") == totals);
  file.erase(file.size() - names - 16, 16);  // its part of shadows
  CHECK(sealed_as("mayflyT1") == totals);
}

TEST_CASE("a record keeps how long its function waited, and is as short as ever without") {
  InvocationRecord record = sample();
  std::string plain;
  encode_record(record, plain);
  record.waited = 7ms;
  for (const bool of_event : {false, true}) {
    if (of_event) record.event = record.invocation;
    std::string frame;
    encode_record(record, frame);
    const std::size_t more =
        sizeof(std::uint64_t) + (of_event ? sizeof record.invocation.bytes : 0);
    CHECK(frame.size() == plain.size() + more);
    const auto payload = intact_frame(bytes_of(frame));
    REQUIRE(payload.has_value());
    CHECK(decode_record(*payload).value() == record);
  }
  Usage usage;
  usage.add(record);
  CHECK(usage.waited_us == 7000);
  CHECK(unbilled(record).waited.count() == 0);
}
