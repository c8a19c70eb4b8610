#include "sandbox/call_message.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

constexpr std::array<float, 2> kFloats = {1.5F, -2};
constexpr std::size_t kFirstPart = 32;  // where its slot lies; then type, offset and bytes in it
constexpr std::size_t kTypeAt = kFirstPart + offsetof(TensorSlot, type);
constexpr std::size_t kRankAt = kFirstPart + offsetof(TensorSlot, rank);
constexpr std::size_t kDimsAt = kFirstPart + offsetof(TensorSlot, dims);
constexpr std::size_t kOffsetAt = kFirstPart + offsetof(TensorSlot, offset);
constexpr std::size_t kNameLengthAt = kFirstPart + sizeof(TensorSlot);

CallMessage two_tensors() {
  return {.kind = CallKind::Tensors,
          .name = "scale",
          .parts = {{"x", DataType::Fp32, {1, 2}, std::as_bytes(std::span(kFloats))},
                    {"empty", DataType::Int64, {0}, {}}}};
}

Region written(const CallMessage& message) {
  Region region = Region::create(call_bytes(message)).value();
  write_call(region.bytes(), message);
  return region;
}

template <typename T>
std::string complaint_about(std::size_t offset, T value) {
  const Region region = written(two_tensors());
  std::memcpy(region.bytes().data() + offset, &value, sizeof value);
  const auto read = read_call(region.bytes());
  if (read) return {};
  CHECK(read.error().reason == reason::kBadReply);
  return read.error().message;
}

}  // namespace

TEST_CASE("a call of tensors is read as it was written") {
  const Region region = written(two_tensors());
  const CallMessage read = read_call(region.bytes()).value();
  CHECK(read.kind == CallKind::Tensors);
  CHECK(read.name == "scale");
  REQUIRE(read.parts.size() == 2);
  CHECK(read.parts[0].name == "x");
  CHECK(read.parts[0].type == DataType::Fp32);
  CHECK(read.parts[0].shape == Shape{1, 2});
  CHECK(std::memcmp(read.parts[0].bytes.data(), kFloats.data(), sizeof kFloats) == 0);
  CHECK(reinterpret_cast<std::uintptr_t>(read.parts[0].bytes.data()) % kTensorAlignment == 0);
  CHECK(read.parts[1].name == "empty");
  CHECK(read.parts[1].bytes.empty());
}

TEST_CASE("a failure keeps its reason, status and words, as many as there is room for") {
  const CallMessage failed{.kind = CallKind::Failed,
                           .status = 429,
                           .name = "queue_full",
                           .text = std::string(2 * kMaxCallText, 'x')};
  const CallMessage read = read_call(written(failed).bytes()).value();
  CHECK(read.status == 429);
  CHECK(read.name == "queue_full");
  CHECK(read.text.size() == kMaxCallText);
}

TEST_CASE("a malformed call is refused: every length, offset and count") {
  CHECK(complaint_about(0, std::uint32_t{7}).contains("it is none"));
  CHECK(complaint_about(4, std::uint32_t{9}).contains("unknown kind"));
  CHECK(complaint_about(4, CallKind::Document).contains("one body"));
  CHECK(complaint_about(4, CallKind::Failed).contains("there are none"));
  CHECK(complaint_about(8, std::uint32_t{100'000}).contains("too many"));
  CHECK(complaint_about(8, std::uint32_t{1000}).contains("malformed"));
  CHECK(complaint_about(16, std::uint32_t{400'000}).contains("too long"));
  CHECK(complaint_about(16, std::uint32_t{10'000}).contains("cut off"));
  CHECK(complaint_about(kTypeAt, std::uint8_t{77}).contains("datatype"));
  CHECK(complaint_about(kRankAt, std::uint8_t{77}).contains("rank"));
  CHECK(complaint_about(kDimsAt, std::int64_t{-1}).contains("shape"));
  CHECK(complaint_about(kDimsAt, std::int64_t{3}).contains("disagree"));
  CHECK(complaint_about(kOffsetAt, std::uint64_t{1} << 63U).contains("outside"));
  CHECK(complaint_about(kOffsetAt, std::uint64_t{100'000}).contains("outside"));
  CHECK(complaint_about(kNameLengthAt, ~std::uint64_t{}).contains("too long"));
  const Region small = Region::create(16).value();
  CHECK_FALSE(read_call(small.bytes()).has_value());
}

TEST_CASE("tensors that lie over each other are refused") {
  std::vector<std::byte> all(kMaxCallText);
  CallMessage message{.kind = CallKind::Tensors, .name = "f"};
  for (int i = 0; i < 3; ++i) {
    message.parts.push_back(
        {"x", DataType::Uint8, {static_cast<std::int64_t>(all.size())}, std::span(all)});
  }
  const Region region = written(message);
  constexpr std::size_t kSlot = sizeof(TensorSlot) + 8;
  for (std::size_t i = 0; i < 3; ++i) {
    const std::uint64_t begin = 0;
    const std::uint64_t bytes = 2 * all.size();
    const auto dims = static_cast<std::int64_t>(bytes);
    std::byte* slot = region.bytes().data() + kFirstPart + i * kSlot;
    std::memcpy(slot + offsetof(TensorSlot, offset), &begin, sizeof begin);
    std::memcpy(slot + offsetof(TensorSlot, bytes), &bytes, sizeof bytes);
    std::memcpy(slot + offsetof(TensorSlot, dims), &dims, sizeof dims);
  }
  const auto read = read_call(region.bytes());
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().message.contains("overlap"));
}
