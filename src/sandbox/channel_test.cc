#include "sandbox/channel.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <optional>

#include "core/reason.h"
#include "sandbox/doorbell.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

const Signature kSignature{.inputs = {{"x", DataType::Fp32, {-1}}},
                           .outputs = {{"y", DataType::Fp32, {-1}}}};

RequestMemory request_of(std::int64_t n) {
  auto layout =
      RequestLayout::plan({{0, DataType::Fp32, {n}, static_cast<std::uint64_t>(n) * 4}}, {0});
  REQUIRE(layout.has_value());
  auto memory = RequestMemory::allocate(*std::move(layout), 1024);
  REQUIRE(memory.has_value());
  return *std::move(memory);
}

}  // namespace

TEST_CASE("a small request is copied into the instance's region and its reply read back") {
  Region region = Region::create(kInstanceRegion).value();
  RequestMemory request = request_of(3);
  CHECK(request.inlined());
  const float sent[] = {1, 2, 3};
  std::memcpy(request.input(0).data(), sent, sizeof(sent));
  request.place(region.bytes());

  const RequestView seen = read_request(region.bytes()).value();
  REQUIRE(seen.inputs.size() == 1);
  CHECK(seen.inputs[0].shape == Shape{3});
  CHECK(std::memcmp(seen.inputs[0].bytes.data(), sent, sizeof(sent)) == 0);
  CHECK(seen.outputs == std::vector<std::uint32_t>{0});

  const OutputPlan plan{DataType::Fp32, {3}, 12};
  const OutputPlacement placement =
      place_outputs({&plan, 1}, outputs_offset(region.bytes()), region.size());
  REQUIRE(placement.offsets.size() == 1);
  std::memcpy(region.bytes().data() + placement.offsets[0], sent, sizeof(sent));
  write_reply_slots(region.bytes(), {&plan, 1}, placement);

  const auto reply = read_reply(region.bytes(), region.bytes(), request.layout(), kSignature);
  REQUIRE(reply.has_value());
  CHECK(reply->at(0).shape == Shape{3});
  CHECK(std::memcmp(reply->at(0).bytes.data(), sent, sizeof(sent)) == 0);
}

TEST_CASE("a large request gets a region of its own") {
  RequestMemory request = request_of(100'000);
  CHECK_FALSE(request.inlined());
  request.place({});
  CHECK(read_request(request.region().bytes()).value().inputs.at(0).shape == Shape{100'000});
}

TEST_CASE("lanes are apart, and a request joins a burst only if it fits one with its outputs") {
  const Region region = Region::create(kInstanceRegion).value();
  RequestMemory first = request_of(3);
  RequestMemory second = request_of(5);
  CHECK(first.fits_lane());
  first.place(lane(region.bytes(), 0));
  second.place(lane(region.bytes(), kLanes - 1));
  CHECK(read_request(lane(region.bytes(), 0)).value().inputs.at(0).shape == Shape{3});
  CHECK(read_request(lane(region.bytes(), kLanes - 1)).value().inputs.at(0).shape == Shape{5});
  CHECK_FALSE(request_of(kLane / sizeof(float)).fits_lane());
  auto layout = RequestLayout::plan({}, {0}).value();
  CHECK_FALSE(RequestMemory::allocate(std::move(layout), kLane).value().fits_lane());
}

TEST_CASE("a lane is claimed once, by the instance or by the server") {
  const Region region = Region::create(kInstanceRegion).value();
  RequestMemory request = request_of(3);
  request.place(region.bytes());
  CHECK(claim(region.bytes(), Claim::TakenBack));
  CHECK_FALSE(claim(region.bytes(), Claim::Begun));
  request.place(region.bytes());
  CHECK(claim(region.bytes(), Claim::Begun));
  CHECK_FALSE(claim(region.bytes(), Claim::TakenBack));
  CHECK_FALSE(has_reply(region.bytes()));
  write_reply_error(region.bytes(), ReplyStatus::ModelError, "no");
  CHECK(has_reply(region.bytes()));
}

TEST_CASE("a function's error brings lines of its code, bounded, and apart from its words") {
  const Region region = Region::create(kInstanceRegion).value();
  RequestMemory request = request_of(3);
  const auto told = [&](ReplyStatus status, std::string_view text, std::string_view traceback) {
    request.place(region.bytes());
    write_reply_error(region.bytes(), status, text, traceback);
    return read_reply(region.bytes(), region.bytes(), request.layout(), kSignature).error();
  };
  Error error = told(ReplyStatus::FunctionError, "KeyError", "line\n\x1b\x1e[2J");
  CHECK(take_traceback(error) == "line\n??[2J");
  CHECK(error.message == "KeyError");
  CHECK(take_traceback(error).empty());

  const std::string long_lines(kMaxTraceback, 'x');
  error = told(ReplyStatus::FunctionError, std::string(2 * kMaxErrorText, 'm'), long_lines + "end");
  CHECK(take_traceback(error) == long_lines.substr(3) + "end");
  CHECK(error.message.size() == kMaxErrorText);
  // Whatever the instance claims, nobody else's errors are longer.
  error = told(ReplyStatus::ModelError, "no", long_lines);
  CHECK(error.message.size() <= kMaxErrorText);

  // Where there is less room it is the end of it.
  const RequestSpan small = region.bytes().first(outputs_offset(region.bytes()) + 16);
  write_reply_error(small, ReplyStatus::FunctionError, "KeyError", "0123456789");
  error = read_reply(small, small, request.layout(), kSignature).error();
  CHECK(take_traceback(error) == "3456789");
}

TEST_CASE("a region cannot be resized by whoever holds its descriptor") {
  const Region region = Region::create(4096).value();
  CHECK(::ftruncate(region.fd(), 0) != 0);
  CHECK(::ftruncate(region.fd(), 8192) != 0);
  CHECK(::fcntl(region.fd(), F_ADD_SEALS, F_SEAL_WRITE) != 0);
}

TEST_CASE("outputs that do not fit say how much they need") {
  const OutputPlan plan{DataType::Fp32, {1000}, 4000};
  const OutputPlacement placement = place_outputs({&plan, 1}, 128, 1024);
  CHECK(placement.offsets.empty());
  CHECK(placement.end == 128 + 4000);
}

TEST_CASE("every lie in a reply is found: offsets, sizes, ranks, types, shapes, status") {
  Region region = Region::create(4096).value();
  RequestMemory request = request_of(3);
  const auto lie = [&](auto&& change) {
    request.place(region.bytes());
    const OutputPlan plan{DataType::Fp32, {3}, 12};
    write_reply_slots(region.bytes(), {&plan, 1},
                      place_outputs({&plan, 1}, outputs_offset(region.bytes()), region.size()));
    RegionHeader header{};
    TensorSlot slot{};
    std::byte* at = region.bytes().data();
    std::memcpy(&header, at, sizeof(header));
    std::memcpy(&slot, at + sizeof(header) + sizeof(slot), sizeof(slot));
    change(header, slot);
    std::memcpy(at, &header, sizeof(header));
    std::memcpy(at + sizeof(header) + sizeof(slot), &slot, sizeof(slot));
    return read_reply(region.bytes(), region.bytes(), request.layout(), kSignature);
  };
  CHECK(lie([](RegionHeader&, TensorSlot&) {}).has_value());
  const auto refused = [&](auto&& change) {
    const auto reply = lie(change);
    REQUIRE_FALSE(reply.has_value());
    CHECK(reply.error().reason == reason::kBadReply);
  };
  refused([](RegionHeader&, TensorSlot& s) { s.offset = 4096; });
  refused([](RegionHeader&, TensorSlot& s) { s.offset = UINT64_MAX - 4; });
  refused([](RegionHeader&, TensorSlot& s) { s.bytes = UINT64_MAX; });
  refused([](RegionHeader&, TensorSlot& s) { s.rank = 17; });
  refused([](RegionHeader&, TensorSlot& s) { s.type = 0; });
  refused(
      [](RegionHeader&, TensorSlot& s) { s.type = static_cast<std::uint8_t>(DataType::Int32); });
  refused([](RegionHeader&, TensorSlot& s) { s.dims[0] = -1; });
  refused([](RegionHeader&, TensorSlot& s) { s.dims[0] = INT64_MAX; });
  refused([](RegionHeader& h, TensorSlot&) { h.status = 99; });
}

namespace {

// A process that never stops writing what it likes over the front of the region.
class HostilePeer {
 public:
  explicit HostilePeer(Region& region) : pid_(::fork()) {
    if (pid_ == 0) rewrite(region.bytes().data());
    REQUIRE(pid_ > 0);
  }
  ~HostilePeer() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  HostilePeer(const HostilePeer&) = delete;
  HostilePeer& operator=(const HostilePeer&) = delete;

 private:
  // Only what stands in the slots: with an unknown status nothing of them would be looked at.
  [[noreturn]] static void rewrite(std::byte* bytes) {
    constexpr std::array<std::uint8_t, 4> kTypes = {
        static_cast<std::uint8_t>(DataType::Fp32), static_cast<std::uint8_t>(DataType::Fp32),
        static_cast<std::uint8_t>(DataType::Int32), 255};
    constexpr std::array<std::uint8_t, 4> kRanks = {1, 1, 1, 17};
    constexpr std::array<std::int64_t, 4> kDims = {3, 900, -1, INT64_MAX};
    constexpr std::array<std::uint64_t, 4> kOffsets = {512, 4032, 4096, UINT64_MAX - 4};
    constexpr std::array<std::uint64_t, 4> kSizes = {12, 3600, 0, UINT64_MAX};
    std::byte* slot = bytes + sizeof(RegionHeader) + sizeof(TensorSlot);
    const auto put = [slot](std::size_t offset, const auto& values, std::uint64_t choice) {
      std::memcpy(slot + offset, &values[choice % values.size()], sizeof(values[0]));
      __asm__ volatile("" ::: "memory");
    };
    std::uint64_t state = 88172645463325252ULL;
    while (true) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      put(offsetof(TensorSlot, type), kTypes, state >> 8);
      put(offsetof(TensorSlot, rank), kRanks, state >> 16);
      put(offsetof(TensorSlot, dims), kDims, state >> 24);
      put(offsetof(TensorSlot, offset), kOffsets, state >> 32);
      put(offsetof(TensorSlot, bytes), kSizes, state >> 40);
    }
  }

  pid_t pid_;
};

}  // namespace

TEST_CASE("the reader stays within bounds while a hostile peer rewrites the region") {
  Region region = Region::create(4096).value();
  RequestMemory request = request_of(3);
  request.place(region.bytes());
  const OutputPlan plan{DataType::Fp32, {3}, 12};
  write_reply_slots(region.bytes(), {&plan, 1}, place_outputs({&plan, 1}, 512, region.size()));
  const HostilePeer peer(region);
  int accepted = 0;
  int refused_bounds = 0;
  constexpr int kEnough = 5000;
  for (int i = 0; i < 20'000'000 && (accepted < kEnough || refused_bounds < kEnough); ++i) {
    if (i % 256 == 0) ::sched_yield();  // the peer needs a processor too
    const auto reply = read_reply(region.bytes(), region.bytes(), request.layout(), kSignature);
    if (!reply.has_value()) {
      const bool bounds = reply.error().message.ends_with("output outside the region");
      refused_bounds += bounds ? 1 : 0;
      continue;
    }
    ++accepted;
    const auto bytes = reply->at(0).bytes;
    REQUIRE(bytes.data() >= region.bytes().data());
    REQUIRE(bytes.data() + bytes.size() <= region.bytes().data() + region.size());
  }
  CHECK(accepted >= kEnough);
  CHECK(refused_bounds >= kEnough);
}

TEST_CASE("outputs that share bytes are refused: together they may not exceed the region") {
  const Signature two{.inputs = kSignature.inputs,
                      .outputs = {{"y", DataType::Fp32, {-1}}, {"z", DataType::Fp32, {-1}}}};
  const Region region = Region::create(4096).value();
  RequestMemory request =
      RequestMemory::allocate(RequestLayout::plan({}, {0, 1}).value(), 1024).value();
  const auto reply_with = [&](std::int64_t n) {
    request.place(region.bytes());
    const auto bytes = static_cast<std::uint64_t>(n) * 4;
    const std::array plans = {OutputPlan{DataType::Fp32, {n}, bytes},
                              OutputPlan{DataType::Fp32, {n}, bytes}};
    write_reply_slots(region.bytes(), plans, {.offsets = {512, 512}, .end = 4096});
    return read_reply(region.bytes(), region.bytes(), request.layout(), two);
  };
  CHECK(reply_with(512).has_value());
  REQUIRE_FALSE(reply_with(513).has_value());
  CHECK(reply_with(513).error().reason == reason::kBadReply);
}

TEST_CASE("memory that the server has let go of holds no bytes, whoever keeps it mapped") {
  const auto held = [](const Fd& memfd) {
    struct stat status{};
    REQUIRE(::fstat(memfd.get(), &status) == 0);
    return status.st_blocks;
  };
  std::optional<RequestMemory> request = request_of(100'000);
  const Fd kept(::dup(request->region().fd()));
  const Region mapped = Region::attach(Fd(::dup(kept.get())), request->region().size()).value();
  std::memset(mapped.bytes().data(), 1, mapped.size());
  CHECK(held(kept) > 0);
  request.reset();
  CHECK(held(kept) == 0);
  CHECK(mapped.bytes()[0] == std::byte{0});
}

TEST_CASE("the doorbell carries a message, one descriptor and the sender's identity") {
  SocketPair pair = make_seqpacket_pair().value();
  const int on = 1;
  REQUIRE(::setsockopt(pair.ours.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0);
  const Region region = Region::create(4096).value();
  REQUIRE(send_message(pair.theirs.get(), {.kind = DoorbellKind::Run, .sequence = 7, .bytes = 4096},
                       region.fd())
              .has_value());
  auto received = receive_message(pair.ours.get());
  REQUIRE(received.has_value());
  REQUIRE(received->has_value());
  CHECK((*received)->message.sequence == 7);
  CHECK((*received)->pid == ::getpid());
  CHECK(Region::attach(std::move((*received)->descriptor), 4096).has_value());

  REQUIRE(set_nonblocking(pair.ours.get()).has_value());
  CHECK_FALSE(receive_message(pair.ours.get()).value().has_value());
  REQUIRE(write_all(pair.theirs.get(), "short").has_value());
  CHECK_FALSE(receive_message(pair.ours.get()).has_value());
  pair.theirs.reset();
  CHECK(receive_message(pair.ours.get()).error().code == Code::Unavailable);
}
